import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { openModels, type Models } from "../models/open-models.ts";
import { UnusableModels } from "./unusable-models.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-unusable-"));
after(() => rm(root, { recursive: true, force: true }));
let cases = 0;

interface Rig {
  readonly models: Models;
  readonly list: (allowed?: readonly string[], now?: number) => readonly string[];
  readonly write: (folder: "shipped" | "own", slug: string, files: Readonly<Record<string, string>>) => Promise<void>;
  readonly reports: (allowed: readonly string[] | null) => UnusableModels;
}

async function createRig(): Promise<Rig> {
  const dir = join(root, String((cases += 1)));
  const folders = { shipped: join(dir, "shipped"), own: join(dir, "own") };
  await Promise.all(Object.values(folders).map((folder) => mkdir(folder, { recursive: true })));
  const models = await openModels({ shippedDir: folders.shipped, modelDirs: [folders.own], stateDir: join(dir, "state") });
  const reports = (allowed: readonly string[] | null): UnusableModels =>
    new UnusableModels({ models, config: { models: allowed } as never });
  return {
    models,
    reports,
    list: (allowed) =>
      reports(allowed ?? null)
        .list()
        .map(({ model, code }) => `${model} ${code}`),
    write: async (folder, slug, files) => {
      const place = join(folders[folder], slug);
      await mkdir(place, { recursive: true });
      for (const [name, text] of Object.entries(files)) await writeFile(join(place, name), text);
      await models.rescan();
    },
  };
}

/** The shortest ONNX model: version 8, an empty graph, operator set 17. */
const GRAPH = "\b\b:\0B\u0002\u0010\u0011";
const PARTS = { "vocab.json": '{"a":1}', "tokenizer_config.json": '{"tokenizer_class":"VitsTokenizer"}' };
const FILES = { ...PARTS, "config.json": '{"sampling_rate":16000}', "model.onnx": GRAPH };

function manifest(slug: string, family = "vits"): string {
  return JSON.stringify({
    version: 1,
    slug,
    name: slug,
    family,
    tasks: [family === "fake" ? "txt2img" : "txt2audio"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "local" },
    memoryBytes: { cpu: 1 },
  });
}

test("a model that is whole is not reported, one with a file missing or damaged is", async () => {
  const { write, list } = await createRig();
  await write("own", "whole", { "model.json": manifest("whole"), ...FILES });
  await write("own", "part", { "model.json": manifest("part"), ...PARTS });
  await write("own", "cut", { "model.json": manifest("cut"), ...FILES, "model.onnx": GRAPH.slice(0, 5) });
  await write("own", "odd", { "model.json": "{" });
  assert.deepEqual(list(), ["cut MODEL_CORRUPT", "part MODEL_NOT_FOUND", "odd MANIFEST_INVALID"]);
});

test("a shipped manifest without its weights is no fault, with a part of them it is", async () => {
  const { write, list } = await createRig();
  await write("shipped", "absent", { "model.json": manifest("absent") });
  await write("shipped", "half", { "model.json": manifest("half"), ...PARTS });
  await write("shipped", "fake", { "model.json": manifest("fake", "fake") });
  assert.deepEqual(list(), ["half MODEL_NOT_FOUND"]);
});

test("with DRYAPI_MODELS, exactly what it names is meant to be served", async () => {
  const { write, list } = await createRig();
  await write("shipped", "absent", { "model.json": manifest("absent") });
  await write("own", "part", { "model.json": manifest("part"), ...PARTS });
  await write("own", "odd", { "model.json": "{" });
  assert.deepEqual(list(["absent", "nowhere"]), ["absent MODEL_NOT_FOUND", "nowhere MODEL_NOT_FOUND"]);
  assert.deepEqual(list(["odd"]), ["odd MANIFEST_INVALID"]);
});

test("what a load found out is reported with its code, since then, until the files change", async () => {
  const { write, models, reports } = await createRig();
  const files = { "model.json": manifest("flux"), ...FILES };
  await write("own", "flux", files);
  const found = reports(null);
  assert.deepEqual(found.list(1_000), []);
  await models.markCorrupt("flux", `graph a has no input "latent"${"!".repeat(1_000)}`, "MODEL_UNSUPPORTED");
  const [report] = found.list(2_000);
  assert.partialDeepStrictEqual(report, { model: "flux", code: "MODEL_UNSUPPORTED", since: 2_000 });
  assert.match(report?.message ?? "", /^model flux: graph a has no input "latent"!+ \.\.\.$/);
  assert.equal(found.list(3_000)[0]?.since, 2_000);
  await rm(join(root, String(cases), "own/flux/model.onnx"));
  await write("own", "flux", files);
  assert.deepEqual(found.list(4_000), []);
});
