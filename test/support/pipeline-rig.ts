import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { openFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import type { JobEnd, Pipeline, RunContext } from "../../src/pipelines/pipeline.ts";
import { FAMILIES } from "../../src/pipelines/registry.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";
import { openTestBackend, TEST_DEVICE } from "./test-device.ts";

const MODELS = join(import.meta.dirname, "..", "..", "models");

export interface LoadedModel {
  readonly manifest: Manifest;
  readonly pipeline: Pipeline;
}

/** A shipped model on the tests' device, in this process; `change` alters its manifest. */
export async function loadShipped(slug: string, change: Partial<Manifest> = {}): Promise<LoadedModel> {
  return loadFrom(join(MODELS, slug), change);
}

/** The same for a model in any folder. */
export async function loadFrom(modelDir: string, change: Partial<Manifest> = {}): Promise<LoadedModel> {
  const path = join(modelDir, "model.json");
  const manifest = { ...parseManifest(JSON.parse(await readFile(path, "utf8")), path), ...change };
  const create = await FAMILIES[manifest.family].open();
  const context = {
    manifest,
    modelDir,
    device: TEST_DEVICE,
    backend: openTestBackend(),
    previews: true,
    embeddingCacheBytes: 0,
    budgetBytes: null,
    stage: () => {},
  };
  return { manifest, pipeline: await create(context) };
}

export interface Told {
  readonly stages: string[];
  readonly fractions: number[];
}

/** Runs one job; cancelled from the given stage on, counted from 1 over all stages. */
export async function runJob(
  pipeline: Pipeline,
  job: RunnerJob,
  { cancelAtStage = Infinity }: { readonly cancelAtStage?: number } = {},
): Promise<{ readonly end: JobEnd; readonly told: Told }> {
  const told: Told = { stages: [], fractions: [] };
  const context: RunContext = {
    stage: (name) => void told.stages.push(name),
    cancelled: () => told.stages.length >= cancelAtStage,
    progress: (_id, { fraction }) => void told.fractions.push(fraction),
    preview: () => undefined,
  };
  const ends: JobEnd[] = [];
  await pipeline.run([job], context, (id, end) => {
    if (id !== job.id) throw new Error(`an end of ${id}, which nobody asked for`);
    ends.push(end);
  });
  const [end] = ends;
  if (end === undefined || ends.length > 1) throw new Error(`the job had ${ends.length} ends`);
  return { end, told };
}

/** Mono float32 samples of a sound file, at its own rate. */
export async function samplesOf(path: string): Promise<Float32Array> {
  await using ffmpeg = openFfmpeg({
    what: "reading the result",
    args: ["-i", path, "-f", "f32le", "-ac", "1", "pipe:1"],
    failure: "INTERNAL",
  });
  const bytes = await buffer(ffmpeg.stdout);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
