import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { AppError, type ErrorCode } from "../protocol/error.ts";
import type { FileProblem } from "./model-files.ts";
import { openModels, type Models } from "./open-models.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-models-"));
after(() => rm(root, { recursive: true, force: true }));

const sha256 = (data: string): string => createHash("sha256").update(data).digest("hex");
const pinned = (file: string, data: string): object => ({ file, sizeBytes: data.length, sha256: sha256(data) });
const GRAPH = "graph bytes".repeat(10);
const WEIGHTS = "weight bytes".repeat(100);

let base: string;
let shippedDir: string;
let ownDir: string;
let notes: string[];
beforeEach(async () => {
  base = await mkdtemp(join(root, "case-"));
  shippedDir = join(base, "shipped");
  ownDir = join(base, "own");
  notes = [];
  await mkdir(shippedDir);
  await mkdir(ownDir);
});

function open(modelDirs: readonly string[] = [ownDir]): Promise<Models> {
  return openModels({ shippedDir, modelDirs, stateDir: join(base, "state"), onNote: (note) => notes.push(note) });
}

function manifest(slug: string, extra: object = {}): object {
  return {
    version: 1,
    slug,
    name: slug,
    family: "fake",
    tasks: ["txt2img"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "example/model" },
    parts: { net: { ...pinned("net/model.onnx", GRAPH), externalData: [pinned("net/model.onnx_data", WEIGHTS)] } },
    files: { tokenizer: "tokenizer" },
    memoryBytes: { cpu: 1_000_000 },
    ...extra,
  };
}

async function write(path: string, data: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, data);
}

async function writeFiles(dir: string): Promise<void> {
  await write(join(dir, "net/model.onnx"), GRAPH);
  await write(join(dir, "net/model.onnx_data"), WEIGHTS);
  await write(join(dir, "tokenizer/tokenizer.json"), "{}");
}

async function writeModel(dir: string, slug: string, extra: object = {}): Promise<void> {
  await write(join(dir, "model.json"), JSON.stringify(manifest(slug, extra)));
  await writeFiles(dir);
}

const hasCode =
  (code: ErrorCode, ...words: readonly string[]) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof AppError && thrown.code === code, String(thrown));
    for (const word of words) assert.ok(thrown.message.includes(word), `"${thrown.message}" does not name ${word}`);
    return true;
  };

test("a folder with a manifest and its files is an available model", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const models = await open([]);
  assert.deepEqual(
    models.list().map(({ slug, state, dir, shipped }) => ({ slug, state, dir, shipped })),
    [{ slug: "tiny", state: "available", dir: join(shippedDir, "tiny"), shipped: true }],
  );
  assert.equal(models.require("tiny").manifest.name, "tiny");
  assert.deepEqual(notes, []);
});

test("big weights are found in a model folder by slug while the manifest is shipped", async () => {
  await write(join(shippedDir, "big", "model.json"), JSON.stringify(manifest("Big1")));
  const second = join(base, "second");
  await writeFiles(join(second, "Big1"));
  const models = await open([ownDir, second]);
  assert.equal(models.get("Big1")?.state, "available");
  assert.equal(models.get("Big1")?.dir, join(second, "Big1"));
});

test("a model without its files is missing and says which, and external data counts", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  await rm(join(shippedDir, "tiny", "net/model.onnx_data"));
  await rm(join(shippedDir, "tiny", "tokenizer"), { recursive: true });
  const models = await open();
  const entry = models.get("tiny");
  assert.equal(entry?.state, "missing");
  assert.deepEqual(
    entry.problems.map(({ file, kind }) => [file, kind]),
    [
      ["net/model.onnx_data", "missing"],
      ["tokenizer", "missing"],
    ],
  );
  assert.throws(() => models.require("tiny"), hasCode("MODEL_NOT_FOUND", "tiny", "model.onnx_data", "net data"));
});

test("of several incomplete folders the fullest is the one reported", async () => {
  await write(join(shippedDir, "big", "model.json"), JSON.stringify(manifest("Big1")));
  await writeFiles(join(ownDir, "Big1"));
  await rm(join(ownDir, "Big1", "net/model.onnx"));
  const entry = (await open()).get("Big1");
  assert.equal(entry?.dir, join(ownDir, "Big1"));
  assert.deepEqual(
    entry.problems.map(({ file }) => file),
    ["net/model.onnx"],
  );
});

test("a truncated file, an empty one and a Git LFS pointer are corrupt and told apart", async () => {
  for (const [data, word] of [
    [WEIGHTS.slice(0, 600), "600 bytes"],
    ["", "empty"],
    [`version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 1200\n`, "Git LFS pointer"],
  ] as const) {
    await writeModel(join(shippedDir, "tiny"), "tiny");
    await writeFile(join(shippedDir, "tiny", "net/model.onnx_data"), data);
    const models = await open();
    assert.equal(models.get("tiny")?.state, "corrupt");
    assert.throws(() => models.require("tiny"), hasCode("MODEL_CORRUPT", "model.onnx_data", word));
  }
});

test("bad manifests are reported by file, and the other models go on", async () => {
  await writeModel(join(shippedDir, "good"), "good");
  await write(join(shippedDir, "cut", "model.json"), '{"version":1,');
  await write(join(shippedDir, "wrong", "model.json"), JSON.stringify(manifest("wrong", { family: "nonsense", tasks: [] })));
  await write(join(shippedDir, "escape", "model.json"), JSON.stringify(manifest("escape", { files: { x: "../../etc/passwd" } })));
  await mkdir(join(shippedDir, "folder", "model.json"), { recursive: true });
  await mkdir(join(shippedDir, "no-manifest"));
  await write(join(shippedDir, "README.md"), "text");
  const models = await open([]);
  assert.deepEqual(
    models.list().map(({ slug }) => slug),
    ["good"],
  );
  assert.deepEqual(
    models
      .invalid()
      .map(({ slug, error }) => [slug, error.code])
      .toSorted(),
    [
      ["cut", "MANIFEST_INVALID"],
      ["escape", "MANIFEST_INVALID"],
      ["folder", "MANIFEST_INVALID"],
      ["wrong", "MANIFEST_INVALID"],
    ],
  );
  assert.throws(() => models.require("wrong"), hasCode("MANIFEST_INVALID", join(shippedDir, "wrong", "model.json"), "family", "tasks"));
  assert.throws(() => models.require("cut"), hasCode("MANIFEST_INVALID", "not JSON"));
  assert.throws(() => models.require("none"), hasCode("MODEL_NOT_FOUND", "none", "good", shippedDir));
  assert.equal(notes.length, 4);
});

test("an operator's manifest wins over the shipped one, and it is said", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny", { name: "shipped" });
  await writeModel(join(ownDir, "my-tiny"), "tiny", { name: "own" });
  const models = await open();
  assert.equal(models.require("tiny").manifest.name, "own");
  assert.equal(models.require("tiny").shipped, false);
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? "", /my-tiny.*is used.*shipped.*is ignored/);
});

test("a model folder that does not exist is a note, not a failure", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const models = await open([join(base, "nowhere")]);
  assert.equal(models.list().length, 1);
  assert.match(notes[0] ?? "", /nowhere cannot be read: ENOENT/);
});

test("a model folder without a model is told apart from one of weights alone, and one that is a model itself is named", async () => {
  await write(join(shippedDir, "big", "model.json"), JSON.stringify(manifest("Big1")));
  await writeFiles(join(ownDir, "Big1"));
  const [empty, oneModel] = [join(base, "empty"), join(base, "one-model")];
  await mkdir(empty);
  await writeModel(oneModel, "one");
  const models = await open([ownDir, empty, oneModel]);
  assert.deepEqual([...models.idleDirs().keys()], [empty, oneModel]);
  assert.match(notes[0] ?? "", /empty holds no model/);
  assert.match(notes[1] ?? "", /one-model is the folder of one model: name the folder above it/);
  await writeModel(join(empty, "late"), "late");
  await models.rescan();
  assert.deepEqual([...models.idleDirs().keys()], [oneModel]);
});

test("a whole model without a program that it needs is unequipped until the program is there, also after a load failed for it", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  await writeModel(join(shippedDir, "cut"), "cut");
  await rm(join(shippedDir, "cut", "net/model.onnx"));
  let missing: readonly FileProblem[] = [];
  const models = await openModels({
    shippedDir,
    modelDirs: [],
    stateDir: join(base, "state"),
    missingPrograms: async () => missing,
  });
  await models.markCorrupt("tiny", "ffmpeg was not found", "MODEL_UNSUPPORTED");
  assert.equal(models.get("tiny")?.state, "unsupported");
  missing = [{ file: "ffmpeg", kind: "program", message: "ffmpeg was not found in the PATH", code: "MODEL_UNSUPPORTED" }];
  assert.deepEqual((await models.rescan()).changed, ["tiny"]);
  assert.equal(models.get("tiny")?.state, "unequipped");
  assert.equal(models.get("cut")?.state, "missing", "its files come first");
  assert.throws(() => models.require("tiny"), hasCode("MODEL_UNSUPPORTED", "model tiny: ffmpeg was not found in the PATH"));
  missing = [];
  assert.deepEqual((await models.rescan()).changed, ["tiny"]);
  assert.equal(models.get("tiny")?.state, "available");
});

test("files may be symbolic links to where the operator keeps them", async () => {
  await write(join(shippedDir, "big", "model.json"), JSON.stringify(manifest("Big1")));
  await writeFiles(join(base, "elsewhere"));
  await symlink(join(base, "elsewhere"), join(ownDir, "Big1"));
  assert.equal((await open()).get("Big1")?.state, "available");
});

test("a full check finds a changed byte that sizes do not show, with progress to the end", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const models = await open();
  const seen: number[] = [];
  const good = await models.verify("tiny", { onProgress: ({ doneBytes, totalBytes }) => seen.push(doneBytes / totalBytes) });
  assert.deepEqual(good, {
    slug: "tiny",
    dir: join(shippedDir, "tiny"),
    verified: ["net/model.onnx", "net/model.onnx_data"],
    unpinned: ["tokenizer"],
    problems: [],
  });
  assert.equal(seen.at(-1), 1);
  await writeFile(join(shippedDir, "tiny", "net/model.onnx_data"), WEIGHTS.replace("w", "W"));
  assert.equal(models.get("tiny")?.state, "available");
  const bad = await models.verify("tiny");
  assert.deepEqual(bad.verified, ["net/model.onnx"]);
  assert.deepEqual(
    bad.problems.map(({ file, kind }) => [file, kind]),
    [["net/model.onnx_data", "corrupt"]],
  );
  assert.equal(models.get("tiny")?.state, "corrupt");
  await assert.rejects(models.ensureVerified("tiny"), hasCode("MODEL_CORRUPT", "model.onnx_data", "sha256"));
});

test("the check before a load hashes a file once, over restarts, until the file changes", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const hashed: string[] = [];
  const onProgress = ({ file }: { file: string }): void => void hashed.push(file);
  await (await open()).ensureVerified("tiny", { onProgress });
  assert.deepEqual(hashed, ["net/model.onnx", "net/model.onnx_data"]);
  await (await open()).ensureVerified("tiny", { onProgress });
  assert.equal(hashed.length, 2);
  await writeFile(join(shippedDir, "tiny", "net/model.onnx"), GRAPH);
  await (await open()).ensureVerified("tiny", { onProgress });
  assert.deepEqual(hashed.slice(2), ["net/model.onnx"]);
  const cache = join(base, "state", "model-digests.json");
  assert.ok((await readFile(cache, "utf8")).includes("model.onnx_data"));
  await writeFile(cache, "{ damaged");
  await (await open()).ensureVerified("tiny", { onProgress });
  assert.equal(hashed.length, 5);
});

test("a check can be aborted", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const reason = new Error("enough");
  await assert.rejects((await open()).verify("tiny", { signal: AbortSignal.abort(reason) }), reason);
});

test("a rescan sees models that were dropped in, repaired, changed and removed", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  await writeModel(join(shippedDir, "gone"), "gone");
  await writeModel(join(shippedDir, "same"), "same");
  await rm(join(shippedDir, "tiny", "net/model.onnx"));
  const models = await open();
  await write(join(shippedDir, "tiny", "net/model.onnx"), GRAPH);
  await writeModel(join(ownDir, "fresh"), "fresh");
  await rm(join(shippedDir, "gone"), { recursive: true });
  assert.deepEqual(await models.rescan(), { added: ["fresh"], removed: ["gone"], changed: ["tiny"] });
  assert.deepEqual(
    models.list().map(({ slug, state }) => [slug, state]),
    [
      ["fresh", "available"],
      ["same", "available"],
      ["tiny", "available"],
    ],
  );
  assert.deepEqual(await models.rescan(), { added: [], removed: [], changed: [] });
});

test("what a runner found corrupt stays so over rescans until its files change", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const models = await open();
  await models.markCorrupt("tiny", "net/model.onnx: protobuf parsing failed");
  assert.throws(() => models.require("tiny"), hasCode("MODEL_CORRUPT", "protobuf"));
  await models.rescan();
  assert.equal(models.get("tiny")?.state, "corrupt");
  await writeFile(join(shippedDir, "tiny", "net/model.onnx"), GRAPH);
  assert.deepEqual((await models.rescan()).changed, ["tiny"]);
  assert.equal(models.get("tiny")?.state, "available");
});

test("what a runner said of a model keeps its code until the manifest changes", async () => {
  await writeModel(join(shippedDir, "tiny"), "tiny");
  const models = await open();
  await models.markCorrupt("tiny", "options.t5_lenght is not known", "MANIFEST_INVALID");
  assert.throws(() => models.require("tiny"), hasCode("MANIFEST_INVALID", "t5_lenght"));
  await writeModel(join(shippedDir, "tiny"), "tiny", { name: "repaired" });
  await models.rescan();
  assert.equal(models.require("tiny").manifest.name, "repaired");
});

test("the folder of pulls need not be there, and what comes into it is seen at the next look", async () => {
  const pulledDir = join(base, "state", "models");
  await write(join(shippedDir, "pulled", "model.json"), JSON.stringify(manifest("pulled")));
  const models = await openModels({
    shippedDir,
    modelDirs: [],
    pulledDir,
    stateDir: join(base, "state"),
    onNote: (note) => notes.push(note),
  });
  assert.equal(models.get("pulled")?.state, "missing");
  await writeFiles(join(pulledDir, "pulled"));
  assert.deepEqual((await models.rescan()).changed, ["pulled"]);
  assert.deepEqual([models.get("pulled")?.state, models.get("pulled")?.dir], ["available", join(pulledDir, "pulled")]);
  assert.deepEqual(notes, []);
});
