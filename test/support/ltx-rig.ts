import { mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { createLtxPipeline } from "../../src/pipelines/ltx-video/ltx-pipeline.ts";
import { openFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import type { Pipeline } from "../../src/pipelines/pipeline.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import type { Manifest } from "../../src/protocol/manifest.ts";
import { MODELS, pixelsOf, readManifest, recordingBackend, type Call } from "./flux-rig.ts";
import { TEST_DEVICE } from "./test-device.ts";

export const LTX_FIXTURES: URL = new URL("../fixtures/ltx-video/", import.meta.url);
export const TINY_LTX = "tiny-ltx-video";

/** A golden of a real diffusers pipeline (scripts/export/goldens_ltx.py). */
export interface LtxGoldenCase {
  readonly mode: "classic" | "condition";
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly fps: number;
  readonly steps: number;
  readonly seed: number;
  readonly guidance: number;
  readonly timesteps: readonly number[] | null;
  readonly image: string | null;
  readonly last_image: string | null;
  readonly image_cond_noise_scale: number;
  readonly tile: readonly [size: number, stride: number] | null;
  /** What frames.png keeps of each frame: x, y, width, height; null: all. */
  readonly crop: readonly [x: number, y: number, width: number, height: number] | null;
  readonly t5_ids: readonly number[];
  readonly t5_mask: readonly number[];
  /** states (start and after each step), tokens, channels */
  readonly latent_shape: readonly [states: number, tokens: number, channels: number];
}

export interface LtxGolden {
  readonly name: string;
  readonly case: LtxGoldenCase;
  /** Start, after step 1, after step 2 ...; each `[tokens, channels]`. */
  readonly latents: readonly Float32Array[];
  /** All frames, `[frames, crop height, crop width, 3]`. */
  readonly pixels: Buffer;
}

export async function readLtxGoldens(): Promise<readonly LtxGolden[]> {
  const entries = await readdir(LTX_FIXTURES, { withFileTypes: true });
  return Promise.all(entries.filter((entry) => entry.isDirectory()).map(({ name }) => readGolden(name)));
}

async function readGolden(name: string): Promise<LtxGolden> {
  const dir = new URL(`${name}/`, LTX_FIXTURES).pathname;
  const golden = JSON.parse(await readFile(join(dir, "case.json"), "utf8")) as LtxGoldenCase;
  const [states, tokens, channels] = golden.latent_shape;
  const all = new Float32Array(Uint8Array.from(await readFile(join(dir, "latents.f32"))).buffer);
  const size = tokens * channels;
  if (all.length !== states * size) throw new Error(`${dir}/latents.f32 has ${all.length} values, case.json says ${states * size}`);
  const latents = Array.from({ length: states }, (_, state) => all.subarray(state * size, (state + 1) * size));
  return { name, case: golden, latents, pixels: await pixelsOf(join(dir, "frames.png")) };
}

export interface LtxRig extends AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly manifest: Manifest;
  readonly calls: Call[];
  readonly stages: string[];
}

export interface OpenLtxOptions {
  /** Replace single entries of the manifest's options. */
  readonly options?: Readonly<Record<string, unknown>>;
  readonly manifest?: Partial<Manifest>;
  readonly modelDir?: string;
  readonly embeddingCacheBytes?: number;
  readonly budgetBytes?: number;
  readonly spoil?: (path: string, results: Record<string, Tensor>) => void;
}

/** The tiny model in this process. */
export async function openLtxRig(given: OpenLtxOptions = {}): Promise<LtxRig> {
  const tiny = await readManifest(TINY_LTX);
  const manifest = { ...tiny, ...given.manifest, options: { ...tiny.options, ...given.options } };
  const calls: Call[] = [];
  const stages: string[] = [];
  const pipeline = await createLtxPipeline({
    manifest,
    modelDir: given.modelDir ?? new URL(TINY_LTX, MODELS).pathname,
    device: TEST_DEVICE,
    backend: recordingBackend(calls, given.spoil),
    previews: true,
    embeddingCacheBytes: given.embeddingCacheBytes ?? 0,
    budgetBytes: given.budgetBytes ?? null,
    stage: (name) => stages.push(name),
  });
  return { pipeline, manifest, calls, stages, [Symbol.asyncDispose]: () => pipeline.close() };
}

/** Output folders of all jobs of this process; they go with it. */
const outRoot = mkdtempSync(join(tmpdir(), "ltx-out-"));
process.once("exit", () => rmSync(outRoot, { recursive: true, force: true }));

export async function ltxJob(id: string, params: JobParams, pictures: Readonly<Record<string, string>> = {}): Promise<RunnerJob> {
  const inputs = Object.entries(pictures).map(([name, path]) => ({ name, path, contentType: "image/png" }));
  const outDir = await mkdtemp(join(outRoot, "job-"));
  return { id, task: inputs.length === 0 ? "txt2video" : "img2video", params, inputs, outDir };
}

export interface ProbedVideo {
  readonly codec_name: string;
  readonly pix_fmt: string;
  readonly width: number;
  readonly height: number;
  readonly nb_read_frames: string;
  readonly r_frame_rate: string;
  readonly color_space: string;
  readonly color_primaries: string;
  readonly color_transfer: string;
  readonly color_range: string;
}

/** What ffprobe says about a clip's video stream, its frames counted by decoding. */
export async function probeVideo(path: string): Promise<ProbedVideo> {
  const args = ["-select_streams", "v:0", "-show_streams", "-count_frames", "-of", "json", path];
  await using run = openFfmpeg({ what: `probing ${path}`, program: "ffprobe", args, failure: "INTERNAL" });
  const found = JSON.parse(await text(run.stdout)) as { readonly streams: readonly ProbedVideo[] };
  await run.ended;
  const [stream] = found.streams;
  if (stream === undefined) throw new Error(`${path} has no video stream`);
  return stream;
}

/** All frames of a clip, `[frames, height, width, 3]`. */
export async function framesOf(path: string): Promise<Buffer> {
  const args = ["-i", path, "-vf", "scale=in_color_matrix=bt709:in_range=tv", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"];
  await using run = openFfmpeg({ what: `decoding ${path}`, args, failure: "INTERNAL" });
  const bytes = await buffer(run.stdout);
  await run.ended;
  return bytes;
}
