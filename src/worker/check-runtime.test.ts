import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { findOrtLibrary, packagedOrt } from "../lib/ort-files.ts";
import type { AppError } from "../protocol/error.ts";
import { checkRuntime, requireRuntime } from "./check-runtime.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-runtime-"));
after(() => rm(dir, { recursive: true, force: true }));

const failsWith = (code: string, words: RegExp) => (error: AppError) => error.code === code && words.test(error.message);

function unwarned(message: string): never {
  throw new Error(`a warning that nobody expects: ${message}`);
}

/** A folder with a library that says this version: what is read of it is no more than that. */
async function versioned(version: string): Promise<string> {
  const path = join(dir, version);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, `libonnxruntime.so.${version}`), `\0VERS_${version}\0`);
  return path;
}

test("the npm package's own onnxruntime, in its place or behind a link, is no problem", async () => {
  assert.equal(await checkRuntime({ runtime: "node", ortDir: null }), null);
  const linked = join(dir, "linked");
  await mkdir(linked);
  await symlink(findOrtLibrary(packagedOrt().dir) ?? "", join(linked, "libonnxruntime.so.1"));
  for (const runtime of ["auto", "c", "node"] as const) assert.equal(await checkRuntime({ runtime, ortDir: linked }), null);
});

test("a newer one is no problem for the C API, and is refused for onnxruntime-node's", async () => {
  const ortDir = await versioned("1.99.0");
  assert.equal(await checkRuntime({ runtime: "auto", ortDir }), null);
  const problem = await checkRuntime({ runtime: "node", ortDir });
  assert.equal(problem?.level, "fail");
  assert.match(problem.message, /^DRYAPI_RUNTIME=node: .* is onnxruntime 1\.99\.0, .* needs exactly 1\./);
});

test("an older one than the npm package's is a warning, one that lacks functions is refused", async () => {
  const old = await checkRuntime({ runtime: "auto", ortDir: await versioned("1.24.1") });
  assert.equal(old?.level, "warn");
  assert.match(old.message, /is onnxruntime 1\.24\.1, older than the npm package's 1\./);
  const warnings: string[] = [];
  await requireRuntime({ runtime: "auto", ortDir: await versioned("1.24.1") }, (message) => warnings.push(message));
  assert.deepEqual(warnings, [old.message]);
  const tooOld = { runtime: "auto", ortDir: await versioned("1.23.2") } as const;
  const refused = failsWith("CONFIG_INVALID", /libonnxruntime\.so\.1\.23\.2 is onnxruntime 1\.23\.2, expected 1\.24\.0 or later/);
  await assert.rejects(requireRuntime(tooOld, unwarned), refused);
});

test("a folder without one is refused with what was looked for", async () => {
  const looked = /which holds no onnxruntime \(looked for libonnxruntime\.so\.1, .*\): .*fetch-cuda.* leave the setting out/;
  await assert.rejects(requireRuntime({ runtime: "auto", ortDir: join(dir, "none") }, unwarned), failsWith("CONFIG_INVALID", looked));
});
