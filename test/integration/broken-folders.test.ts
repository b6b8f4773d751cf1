import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { familyFiles, type FileSpec } from "../../src/core/family-layout.ts";
import { firstWhole } from "../../src/lib/first-whole.ts";
import { openModels } from "../../src/models/open-models.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";

/** Every family x every file that it needs x every way to break one: none of these folders may be called available. */

const MODELS = new URL("../../models/", import.meta.url).pathname;
const SLUGS = ["tiny-flux-dev", "tiny-ltx-video", "tiny-kokoro", "tiny-vits", "tiny-musicgen", "tiny-whisper"];

const root = await mkdtemp(join(tmpdir(), "dryapi-broken-"));
after(() => rm(root, { recursive: true, force: true }));

const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 1200\n`;
const PAGE = `<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>${"log in ".repeat(10_000)}</body></html>\n`;

interface Fault {
  readonly name: string;
  readonly state: "missing" | "corrupt";
  /** Null: removed. Undefined: it cannot be had of this kind. */
  readonly make: (whole: Buffer, spec: FileSpec) => Buffer | string | null | undefined;
  /** What the message says of it. */
  readonly says: RegExp;
}

const AGAIN = /fetch it again/;
const FAULTS: readonly Fault[] = [
  { name: "missing", state: "missing", make: () => null, says: /does not exist.*fetch it from .*model\.json/ },
  { name: "empty", state: "corrupt", make: () => "", says: /is empty: fetch it again/ },
  { name: "cut in the middle", state: "corrupt", make: (whole) => whole.subarray(0, Math.floor(whole.length / 2) - 3), says: AGAIN },
  { name: "without its last bytes", state: "corrupt", make: (whole) => whole.subarray(0, whole.length - 9), says: AGAIN },
  { name: "zeros", state: "corrupt", make: (whole) => Buffer.alloc(whole.length), says: /zeros: fetch it again/ },
  { name: "a page", state: "corrupt", make: () => PAGE, says: /is an HTML page.*fetch it again/ },
  { name: "an error of a store", state: "corrupt", make: () => "<?xml version='1.0'?><Error/>", says: /is an XML document/ },
  { name: "a pointer", state: "corrupt", make: () => POINTER, says: /is a Git LFS pointer.*git lfs pull/ },
  {
    name: "text in the place of JSON",
    state: "corrupt",
    make: (_, { kind }) => (kind === "json" ? "not found\n" : undefined),
    says: /is no JSON/,
  },
  { name: "a list in the place of JSON", state: "corrupt", make: (_, { kind }) => (kind === "json" ? "[]" : undefined), says: /no object/ },
  {
    name: "JSON of another file",
    state: "corrupt",
    make: (_, { kind, holds = [] }) => (kind === "json" && holds.length > 0 ? "{}" : undefined),
    says: /another file than its name says/,
  },
  {
    name: "JSON in the place of something else",
    state: "corrupt",
    make: (_, { kind }) => (kind === "json" ? undefined : '{"error": "Repository not found"}'),
    says: AGAIN,
  },
];

/** The manifest as somebody writes it for a folder of his own: no parts, no pins, no files. */
function bare(shipped: Manifest): Manifest {
  return { ...shipped, slug: `own-${shipped.family}`, parts: {}, files: {} };
}

async function needed(dir: string, manifest: Manifest): Promise<readonly FileSpec[]> {
  const sets = await Promise.all(familyFiles(manifest).map(async ({ sets: all, required }) => (required ? firstWhole(dir, all) : [])));
  return sets.flatMap((set) => {
    assert.ok(set !== null, `${manifest.slug} is not whole`);
    return set;
  });
}

async function stateIn(folders: string): Promise<{ readonly state: string | undefined; readonly messages: readonly string[] }> {
  const models = await openModels({ shippedDir: join(root, "none"), modelDirs: [folders], stateDir: join(root, "state") });
  const [entry] = models.list();
  return { state: entry?.state, messages: entry?.problems.map(({ message }) => message) ?? [] };
}

for (const slug of SLUGS) {
  test(`${slug}: no folder with a broken file is available`, async () => {
    const shipped = parseManifest(JSON.parse(await readFile(join(MODELS, slug, "model.json"), "utf8")), slug);
    const manifest = bare(shipped);
    const folders = join(root, slug);
    const dir = join(folders, manifest.slug);
    await mkdir(folders, { recursive: true });
    await cp(join(MODELS, slug), dir, { recursive: true });
    await writeFile(join(dir, "model.json"), JSON.stringify(manifest));
    assert.deepEqual(await stateIn(folders), { state: "available", messages: [] });

    const specs = await needed(dir, manifest);
    assert.ok(specs.length >= 3);
    for (const spec of specs) {
      const path = join(dir, spec.file);
      const whole = await readFile(path);
      for (const fault of FAULTS) {
        const made = fault.make(whole, spec);
        if (made === undefined) continue;
        if (made === null) await rm(path);
        else await writeFile(path, made);
        const { state, messages } = await stateIn(folders);
        assert.equal(state, fault.state, `${spec.file} ${fault.name}: ${messages.join("; ")}`);
        assert.equal(messages.length, 1, messages.join("; "));
        assert.ok(messages[0]?.startsWith(dir) && messages[0].includes(spec.file), `${spec.file} ${fault.name}: ${messages[0]}`);
        assert.match(messages[0] ?? "", fault.says, `${spec.file} ${fault.name}`);
      }
      await writeFile(path, whole);
    }
    assert.equal((await stateIn(folders)).state, "available");
  });
}

test("weights beside a graph must be there and long enough", async () => {
  const dir = join(root, "bfl", "bfl");
  await mkdir(dirname(dir), { recursive: true });
  await cp(new URL("../fixtures/flux/tiny-flux-bfl/", import.meta.url).pathname, dir, { recursive: true });
  const written = JSON.parse(await readFile(join(dir, "model.json"), "utf8")) as { parts: Record<string, { externalData?: unknown }> };
  // A manifest that says nothing of them: the graph does.
  for (const part of Object.values(written.parts)) delete part.externalData;
  await writeFile(join(dir, "model.json"), JSON.stringify(written));
  const path = join(dir, "transformer.opt/fp16/backbone.onnx_data");
  const whole = await readFile(path);
  assert.deepEqual(await stateIn(dirname(dir)), { state: "available", messages: [] });
  const cases: readonly [Buffer | string | null, string, RegExp][] = [
    [null, "missing", /has weights in .*backbone\.onnx_data, which does not exist/],
    [whole.subarray(0, whole.length - 1), "corrupt", /needs 147840 bytes of .*backbone\.onnx_data, which has 147839: .*cut off/],
    [PAGE, "corrupt", /backbone\.onnx_data, and that file is an HTML page/],
    [POINTER, "corrupt", /backbone\.onnx_data, and that file is a Git LFS pointer/],
  ];
  for (const [content, state, says] of cases) {
    if (content === null) await rm(path);
    else await writeFile(path, content);
    const found = await stateIn(dirname(dir));
    assert.equal(found.state, state);
    assert.match(found.messages.join("\n"), says);
  }
});
