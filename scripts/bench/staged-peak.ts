/**
 * Runs jobs of a model with Flux' edges in this process and prints, as JSON, what it held: `node staged-peak.ts FOLDER all|turns`. The folder
 * is one of test/support/large-flux.ts.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { memoryNeeds, largestStage } from "../../src/core/memory-plan.ts";
import { createFluxPipeline } from "../../src/pipelines/flux/flux-pipeline.ts";
import type { JobEnd } from "../../src/pipelines/pipeline.ts";
import { parseManifest } from "../../src/protocol/manifest.ts";
import { openBackend } from "../../src/runner/open-backend.ts";
import type { LargeFlux } from "../../test/support/large-flux.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";
const [, , modelDir = "", mode = "all"] = process.argv;
/** What runs take beside the weights: pictures of 256 x 256 in float32, some times over. */
const ACTIVATIONS = 32 * 1024 ** 2;
const CPU = { kind: "cpu", index: 0, threads: 2 } as const;

/** Bytes; `anonymous` is what is not a file's. */
async function held(): Promise<{ readonly all: number; readonly anonymous: number; readonly peak: number }> {
  const text = await readFile("/proc/self/status", "utf8");
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) * 1024;
  return { all: of("VmRSS"), anonymous: of("RssAnon"), peak: of("VmHWM") };
}

const { sizes } = JSON.parse(await readFile(join(modelDir, "model.json"), "utf8")) as { readonly sizes: LargeFlux };
const all = Object.values(sizes).reduce((sum, bytes) => sum + bytes, 0);
const manifest = parseManifest(
  {
    version: 1,
    slug: "large-flux",
    name: "Large",
    family: "flux",
    tasks: ["txt2img"],
    license: { id: "x", commercial: true },
    source: { repository: "x" },
    options: { t5_length: 16 },
    memoryBytes: { cpu: all + ACTIVATIONS },
  },
  "here",
);
const needs = memoryNeeds(manifest, "cpu", (part) => sizes[part as keyof LargeFlux] ?? null);
if (needs === null) throw new Error("no stages: this is a bug");
// The files are a little larger than what was asked for.
const budgetBytes = mode === "turns" ? Math.ceil(largestStage(needs).bytes * 1.01) : null;
const backend = openBackend({ device: CPU });
// What onnxruntime itself takes is in the process before the first weight.
const small = await backend.open(join(import.meta.dirname, "../../models/tiny-flux-schnell/vae_decoder/model.onnx"));
await small.release();
globalThis.gc?.();
const before = await held();
await writeFile("/proc/self/clear_refs", "5");
const startedAt = performance.now();
const pipeline = await createFluxPipeline({
  manifest,
  modelDir,
  device: CPU,
  backend,
  previews: false,
  embeddingCacheBytes: 1_000_000,
  budgetBytes,
  stage: () => undefined,
});
const loadMs = performance.now() - startedAt;
const outDir = await mkdtemp(join(tmpdir(), "staged-peak-"));
const stages: Record<string, number> = {};
const jobs: unknown[] = [];
for (const prompt of ["a", "b", "b"]) {
  let end: JobEnd | null = null;
  let stage = "";
  const opened: string[] = [];
  const note = async (): Promise<void> => {
    const name = stage;
    const { all: now } = await held();
    stages[name] = Math.max(stages[name] ?? 0, now - before.all);
  };
  await pipeline.run(
    [{ id: "job", task: "txt2img", params: { prompt, width: 256, height: 256, steps: 4, seed: 1 }, inputs: [], outDir }],
    {
      stage: (name) => {
        stage = name;
        if (name.startsWith("load:")) opened.push(name.slice("load:".length));
        void note();
      },
      cancelled: () => false,
      progress: () => void note(),
      preview: () => undefined,
    },
    (_, given) => {
      end = given;
    },
  );
  const ended = end as JobEnd | null;
  if (ended?.ok !== true) throw new Error("the job failed", { cause: ended?.error });
  const { runMs, sessionMs, wakeMs = 0, parkMs = 0 } = ended.output;
  jobs.push({
    prompt,
    opened,
    runMs: Math.round(runMs),
    sessionMs: Math.round(sessionMs),
    wakeMs: Math.round(wakeMs),
    parkMs: Math.round(parkMs),
  });
}
const after = await held();
await pipeline.close();
const closed = await held();
await rm(outDir, { recursive: true });
process.stdout.write(
  `${JSON.stringify({
    loadMs: Math.round(loadMs),
    peakBytes: after.peak - before.all,
    wholeBytes: all,
    largestStageBytes: largestStage(needs).bytes,
    closedBytes: closed.all - before.all,
    baseBytes: before.all,
    stages,
    jobs,
  })}\n`,
);
