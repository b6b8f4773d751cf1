import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { API_VERSION } from "../runner/ort/api-table.ts";
import { compareVersions, findOrtLibrary, MIN_ORT_VERSION, packagedOrt, providerIsOf, readOrtVersion, whyNotForNode } from "./ort-files.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-ort-files-"));
after(() => rm(dir, { recursive: true, force: true }));

async function folder(name: string, files: Readonly<Record<string, string>>): Promise<string> {
  const path = join(dir, name);
  await mkdir(path);
  for (const [file, text] of Object.entries(files)) await writeFile(join(path, file), text);
  return path;
}

const linux = { skip: process.platform === "linux" ? false : "names of Linux" };

test("a library is found by the loader's name first, then by the newest version in a name", linux, async () => {
  const both = await folder("both", { "libonnxruntime.so.1.30.0": "", "libonnxruntime.so.1": "", "libonnxruntime.so": "" });
  assert.equal(findOrtLibrary(both), join(both, "libonnxruntime.so.1"));
  const wheel = await folder("wheel", { "libonnxruntime.so.1.9.0": "", "libonnxruntime.so.1.32.0": "" });
  assert.equal(findOrtLibrary(wheel), join(wheel, "libonnxruntime.so.1.32.0"));
  const others = await folder("others", { "libonnxruntime_providers_cuda.so": "", "libonnxruntime.so.1.32.0.bak": "" });
  assert.equal(findOrtLibrary(others), null);
  assert.equal(findOrtLibrary(join(dir, "none")), null);
});

test("the npm package's library says the package's version, and can be called by onnxruntime-node", linux, async () => {
  const { dir: packaged, version } = packagedOrt();
  const library = findOrtLibrary(packaged);
  assert.ok(library !== null);
  assert.equal(await readOrtVersion(library), version);
  assert.equal(await whyNotForNode(library), null);
  // It carries its own version as a text too, as providers do.
  assert.equal(await providerIsOf(library, version), true);
  assert.equal(await providerIsOf(library, "1.29.99"), false);
});

test("a version is found across the pieces in which a file is read, and none is null", async () => {
  const at = 2 ** 20 - 6;
  const split = await folder("split", { a: `${" ".repeat(at)}VERS_1.31.4\0`, b: "VERS_1.0\0" });
  assert.equal(await readOrtVersion(join(split, "a")), "1.31.4");
  assert.equal(await readOrtVersion(join(split, "b")), null);
  assert.equal(await readOrtVersion(join(split, "none")), null);
});

test("onnxruntime-node's own API needs its own version, under the name that its binding asks for", linux, async () => {
  const { version } = packagedOrt();
  const other = await folder("other", { "libonnxruntime.so.1": "VERS_1.32.0\0" });
  assert.match((await whyNotForNode(join(other, "libonnxruntime.so.1"))) ?? "", /is onnxruntime 1\.32\.0, .* needs exactly 1\./);
  const named = await folder("named", { [`libonnxruntime.so.${version}`]: `VERS_${version}\0` });
  assert.match((await whyNotForNode(join(named, `libonnxruntime.so.${version}`))) ?? "", /link it to libonnxruntime\.so\.1/);
});

test("versions are compared by number, and the oldest is that of the table of functions", () => {
  assert.ok(compareVersions("1.9.0", "1.24.0") < 0 && compareVersions("1.30.1", "1.30.0") > 0 && compareVersions("1.30.0", "1.30.0") === 0);
  assert.equal(MIN_ORT_VERSION, `1.${API_VERSION}.0`);
});
