import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFluxPipeline } from "../../../src/pipelines/flux/flux-pipeline.ts";
import type { JobEnd, RunContext } from "../../../src/pipelines/pipeline.ts";
import type { Tensor } from "../../../src/pipelines/backend.ts";
import { AppError } from "../../../src/protocol/error.ts";
import type { JobOutput } from "../../../src/protocol/ipc.ts";
import { openBackend } from "../../../src/runner/open-backend.ts";
import { deviceBytes } from "../../../test/gpu/report.ts";
import { readManifest } from "../../../test/support/flux-rig.ts";
import { percentile } from "../row.ts";
import { ids, measurePart, wave, type Bench, type PartResult } from "./geometry.ts";

const JOBS = 3;
const CANCELS = 20;
/** schnell's. */
const TEXT_TOKENS = 256;

interface Sizes {
  readonly t5_width: number;
  readonly clip_width: number;
}

export interface FluxResult {
  readonly size: number;
  readonly steps: number;
  readonly parts: readonly PartResult[];
  readonly loadMs: number;
  /** Median job. */
  readonly job: Pick<JobOutput, "runMs" | "sessionMs" | "encodeMs">;
  /** Most memory that was in use during a stage, bytes. */
  readonly stageBytes: Readonly<Record<string, number>>;
  readonly cancel: { readonly runMs: number; readonly p50Ms: number; readonly p95Ms: number };
}

/** FLUX.1's graphs with drawn weights: each by itself beside torch, then whole jobs through the pipeline, then cancels inside a step. */
export async function measureFlux(bench: Bench, size: number, steps: number): Promise<FluxResult> {
  const sizes = JSON.parse(await readFile(join(bench.folder, "geometry.json"), "utf8")) as Sizes;
  const step = transformerFeeds(sizes, size);
  const parts = [
    await measurePart(bench, "text_encoder", "text_encoder/model.onnx", { input_ids: ids(77) }, "pooler_output"),
    await measurePart(bench, "text_encoder_2", "text_encoder_2/model.onnx", { input_ids: ids(TEXT_TOKENS) }, "last_hidden_state"),
    await measurePart(bench, "transformer", "transformer/model.onnx", step, "out_hidden_states"),
    await measurePart(bench, "vae_decoder", "vae_decoder/model.onnx", { latent_sample: wave(1, 16, size / 8, size / 8) }, "sample"),
  ];
  return { size, steps, parts, ...(await measureJobs(bench, size, steps)), cancel: await measureCancels(bench, step) };
}

function transformerFeeds({ t5_width, clip_width }: Sizes, size: number): Record<string, Tensor> {
  const grid = size / 16;
  const positions = Array.from({ length: grid * grid }, (_, token) => [0n, BigInt(Math.floor(token / grid)), BigInt(token % grid)]).flat();
  return {
    hidden_states: wave(1, grid * grid, 64),
    encoder_hidden_states: wave(1, TEXT_TOKENS, t5_width),
    pooled_projections: wave(1, clip_width),
    timestep: { type: "float32", data: Float32Array.of(0.75), dims: [1] },
    img_ids: { type: "int64", data: BigInt64Array.from(positions), dims: [grid * grid, 3] },
    txt_ids: { type: "int64", data: new BigInt64Array(TEXT_TOKENS * 3), dims: [TEXT_TOKENS, 3] },
  };
}

async function measureJobs(
  { device, folder }: Bench,
  size: number,
  steps: number,
): Promise<Pick<FluxResult, "loadMs" | "job" | "stageBytes">> {
  const tiny = await readManifest("tiny-flux-schnell");
  const { max_width: _width, max_height: _height, ...limits } = tiny.limits;
  const startedAt = performance.now();
  const pipeline = await createFluxPipeline({
    manifest: { ...tiny, tasks: ["txt2img"], limits: { ...limits, max_width: size, max_height: size } },
    modelDir: folder,
    device,
    backend: openBackend({ device }, "c"),
    previews: true,
    // Each job has its own text: none is remembered.
    embeddingCacheBytes: 0,
    budgetBytes: null,
    stage: () => undefined,
  });
  const loadMs = performance.now() - startedAt;
  const watch = new MemoryWatch();
  const outDir = await mkdtemp(join(tmpdir(), "geometry-"));
  try {
    const outputs: JobOutput[] = [];
    for (let index = 0; index <= JOBS; index++) {
      const params = { prompt: `a lighthouse, number ${index}`, width: size, height: size, steps, seed: index };
      let ended: JobEnd | null = null;
      const job = { id: "job", task: "txt2img", params, inputs: [], outDir: await mkdtemp(join(outDir, "job-")) } as const;
      await pipeline.run([job], watch.context, (_id, end) => void (ended = end));
      outputs.push(outputOf(ended));
    }
    // The first one warms up.
    const middle = outputs
      .slice(1)
      .toSorted((a, b) => a.runMs - b.runMs)
      .at(JOBS >> 1);
    if (middle === undefined) throw new RangeError("bench: no job was measured");
    const { runMs, sessionMs, encodeMs } = middle;
    return { loadMs, job: { runMs, sessionMs, encodeMs }, stageBytes: await watch.bytes() };
  } finally {
    await pipeline.close();
    await rm(outDir, { recursive: true });
  }
}

function outputOf(end: JobEnd | null): JobOutput {
  if (end === null) throw new Error("bench: the job did not end");
  if (!end.ok) throw end.error;
  return end.output;
}

/** Asks for the memory in use as each stage begins: what the stage before it has taken. */
class MemoryWatch {
  readonly #found: Record<string, number> = {};
  readonly #asked: Promise<void>[] = [];
  #stage: string | null = null;
  readonly context: RunContext = {
    stage: (name) => {
      this.#note(this.#stage);
      this.#stage = name;
    },
    cancelled: () => false,
    progress: () => undefined,
    preview: (_id, _step, render) => void render(),
  };

  async bytes(): Promise<Readonly<Record<string, number>>> {
    this.#note(this.#stage);
    await Promise.all(this.#asked);
    return this.#found;
  }

  #note(stage: string | null): void {
    if (stage === null) return;
    this.#asked.push(deviceBytes().then((bytes) => void (this.#found[stage] = Math.max(this.#found[stage] ?? 0, bytes))));
  }
}

async function measureCancels({ device, folder }: Bench, feeds: Record<string, Tensor>): Promise<FluxResult["cancel"]> {
  const backend = openBackend({ device }, "c");
  const session = await backend.open(join(folder, "transformer", "model.onnx"));
  try {
    const first = await session.run(feeds);
    const before = session.runMs;
    await session.run(feeds);
    const runMs = session.runMs - before;
    const tookMs: number[] = [];
    for (let index = 0; index < CANCELS; index++) {
      const abort = new AbortController();
      backend.guard(abort.signal);
      let abortedAt = NaN;
      const timer = setTimeout(
        () => {
          abortedAt = performance.now();
          abort.abort();
        },
        (runMs * index) / CANCELS,
      );
      // One that has come to its end before says nothing.
      await session.run(feeds).catch((thrown: unknown) => {
        if (!(thrown instanceof AppError) || thrown.code !== "CANCELLED") throw thrown;
        tookMs.push(performance.now() - abortedAt);
      });
      clearTimeout(timer);
    }
    backend.guard(null);
    const again = await session.run(feeds);
    if (!sameBits(first["out_hidden_states"], again["out_hidden_states"]))
      throw new Error("bench: a run after cancels gives something else");
    return { runMs, p50Ms: percentile(tookMs, 50), p95Ms: percentile(tookMs, 95) };
  } finally {
    await session.release();
  }
}

function sameBits(one: Tensor | undefined, other: Tensor | undefined): boolean {
  if (one === undefined || other === undefined) return false;
  return Buffer.from(one.data.buffer).equals(Buffer.from(other.data.buffer));
}
