import type { JobOutput } from "../../protocol/ipc.ts";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, it } from "node:test";
import sharp from "sharp";
import type { JobParams } from "../../protocol/job.ts";
import { parseManifest, type Manifest } from "../../protocol/manifest.ts";
import type { JobEnd, LoadContext, Pipeline, RunContext } from "../pipeline.ts";
import { PREVIEW_JPEG } from "./fake-output.ts";
import { createFakePipeline } from "./fake-pipeline.ts";

const MODELS = join(import.meta.dirname, "..", "..", "..", "models");

let dir: string;
let pipeline: Pipeline;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "dryapi-fake-"));
  pipeline = await createFakePipeline(loadContext(await shipped("fake")));
});
after(() => rm(dir, { recursive: true, force: true }));

async function shipped(slug: string): Promise<Manifest> {
  const path = join(MODELS, slug, "model.json");
  return parseManifest(JSON.parse(await readFile(path, "utf8")), path);
}

function loadContext(manifest: Manifest): LoadContext {
  const backend = { open: () => Promise.reject(new Error("the fake family opens no session")), guard: () => undefined };
  return {
    manifest,
    modelDir: dir,
    device: { kind: "cpu", index: 0, threads: 1 },
    backend,
    previews: true,
    embeddingCacheBytes: 0,
    budgetBytes: null,
    stage: () => undefined,
  };
}

async function run(
  all: Readonly<Record<string, JobParams>>,
): Promise<{ readonly ends: ReadonlyMap<string, JobEnd>; readonly stages: readonly string[] }> {
  const ends = new Map<string, JobEnd>();
  const stages: string[] = [];
  const context: RunContext = {
    stage: (name) => void stages.push(name),
    cancelled: () => false,
    progress: () => undefined,
    preview: () => undefined,
  };
  const jobs = Object.entries(all).map(([id, params]) => ({ id, task: "txt2img" as const, params, inputs: [], outDir: dir }));
  await pipeline.run(jobs, context, (id, end) => ends.set(id, end));
  return { ends, stages };
}

async function outputOf(params: JobParams): Promise<JobOutput> {
  const end = (await run({ "job-out-1": params })).ends.get("job-out-1");
  assert.ok(end?.ok === true);
  return end.output;
}

it("the shipped manifests are valid test models with one slug each", async () => {
  for (const slug of ["fake", "fake-b"]) {
    const manifest = await shipped(slug);
    assert.deepEqual([manifest.slug, manifest.family, manifest.status], [slug, "fake", "test_model"]);
  }
});

it("a no-op says nothing and writes a real picture", async () => {
  const { ends, stages } = await run({ "job-noop-1": {} });
  assert.deepEqual(stages, []);
  assert.equal(ends.get("job-noop-1")?.ok, true);
  const { format, width, height } = await sharp(join(dir, "image.png")).metadata();
  assert.deepEqual([format, width, height], ["png", 8, 8]);
  assert.equal((await sharp(PREVIEW_JPEG).metadata()).format, "jpeg");
});

it("bytes come in the size asked for, equal for equal seeds, under their true digest", async () => {
  const digests = await Promise.all(
    [1, 1, 2].map(async (seed) => {
      const [file] = (await outputOf({ output_bytes: 200_000, seed })).files;
      return file?.sha256;
    }),
  );
  const { files } = await outputOf({ output_bytes: 200_000, seed: 2 });
  const bytes = await readFile(join(dir, "output.bin"));
  assert.equal(bytes.byteLength, 200_000);
  assert.equal(createHash("sha256").update(bytes).digest("hex"), files[0]?.sha256);
  assert.equal(digests[0], digests[1]);
  assert.notEqual(digests[0], digests[2]);
  assert.equal(
    (await readdir(dir)).some((name) => name.endsWith(".partial")),
    false,
  );
});

it("bad outputs are bad: one is not there, one has another digest", async () => {
  const [missing] = (await outputOf({ fault: { at: "encode", kind: "missing_file" } })).files;
  assert.equal((await readdir(dir)).includes(missing?.name ?? ""), false);
  const [wrong] = (await outputOf({ fault: { at: "encode", kind: "wrong_sha" } })).files;
  const real = createHash("sha256")
    .update(await readFile(join(dir, wrong?.name ?? "")))
    .digest("hex");
  assert.notEqual(wrong?.sha256, real);
});

it("out of memory fails the batch as a whole, with its own code", async () => {
  await assert.rejects(run({ "job-oom-1": { steps: 1, fault: { kind: "oom" } }, "job-oom-2": { steps: 1 } }), { code: "OUT_OF_MEMORY" });
});

it("a fault can be written as a text: its kind, or JSON", async () => {
  const { ends } = await run({
    "job-text-1": { steps: 1, fault: "throw" },
    "job-text-2": { steps: 1, fault: '{"at":"encode","kind":"throw"}' },
    "job-text-3": { fault: "{explode" },
  });
  const messages = ["job-text-1", "job-text-2", "job-text-3"].map((id) => {
    const end = ends.get(id);
    return end?.ok === false && end.error instanceof Error ? end.error.message : "";
  });
  assert.match(messages[0] ?? "", /threw, as asked/);
  assert.match(messages[1] ?? "", /threw, as asked/);
  assert.match(messages[2] ?? "", /fault/);
});

it("a wrong parameter fails its job and names itself", async () => {
  const { ends } = await run({ "job-bad-1": { steps: "many" }, "job-bad-2": { fault: { kind: "explode" } }, "job-good-1": {} });
  const messages = ["job-bad-1", "job-bad-2"].map((id) => {
    const end = ends.get(id);
    return end?.ok === false && end.error instanceof Error ? end.error.message : "";
  });
  assert.match(messages[0] ?? "", /steps/);
  assert.match(messages[1] ?? "", /fault\.kind/);
  assert.equal(ends.get("job-good-1")?.ok, true);
});
