/** What the product's pipelines make of a model folder of each family, and how two such results are compared. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { FeatureReader } from "../../src/pipelines/whisper/feature-reader.ts";
import { surveyAudio } from "../../src/pipelines/whisper/survey-audio.ts";
import { transcribe } from "../../src/pipelines/whisper/transcribe.ts";
import { openWhisperModel } from "../../src/pipelines/whisper/whisper-model.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";
import { fluxJob, openFluxRig, pixelsOf, RecordingContext, recordingBackend, type Call } from "../support/flux-rig.ts";
import { ltxJob, openLtxRig } from "../support/ltx-rig.ts";
import { babble, inPieces } from "../support/whisper-audio.ts";
import { readWhisperGoldens, whisperContext } from "../support/whisper-rig.ts";

export const SEEDS = [0, 1, 2, 3] as const;

export async function manifestOf(folder: string): Promise<Manifest> {
  const path = join(folder, "model.json");
  return parseManifest(JSON.parse(await readFile(path, "utf8")), path);
}

/** PSNR in dB of 8-bit values. @throws where the sizes differ */
export function psnr(some: Uint8Array, others: Uint8Array): number {
  assert.equal(some.length, others.length);
  const squares = some.reduce((sum, value, i) => sum + (value - (others[i] ?? NaN)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / some.length));
}

/** A picture of each of SEEDS, raw RGB. */
export async function pictures(folder: string): Promise<readonly Buffer[]> {
  await using rig = await openFluxRig({ manifest: await manifestOf(folder), modelDir: folder });
  const made: Buffer[] = [];
  for (const seed of SEEDS) {
    const job = await fluxJob(`seed-${seed}`, { prompt: "a red fox standing in fresh snow", width: 128, height: 128, steps: 4, seed });
    const context = new RecordingContext();
    await rig.pipeline.run([job], context, context.end);
    assert.equal(context.ends.get(job.id)?.ok, true);
    made.push(await pixelsOf(join(job.outDir, "image.png")));
  }
  return made;
}

/** The frames of a clip as the decoder gives them, before H.264, in levels of 255. */
export async function clip(folder: string): Promise<Uint8Array> {
  const samples: Float32Array[] = [];
  const spoil = (path: string, { sample }: Record<string, Tensor>): void => {
    if (path.includes("/vae_decoder/") && sample?.type === "float32") samples.push(sample.data.slice());
  };
  await using rig = await openLtxRig({ manifest: await manifestOf(folder), modelDir: folder, spoil });
  const job = await ltxJob("clip", {
    prompt: "waves at a pier",
    width: 128,
    height: 96,
    frames: 17,
    fps: 30,
    steps: 8,
    seed: 5,
    guidance: 1,
  });
  const context = new RecordingContext();
  await rig.pipeline.run([job], context, context.end);
  assert.equal(context.ends.get(job.id)?.ok, true);
  assert.ok(samples.length > 0);
  return Uint8ClampedArray.from(
    samples.flatMap((sample) => Array.from(sample, (value) => (value * 0.5 + 0.5) * 255)),
  ) as unknown as Uint8Array;
}

/** One step of a decoder: what it was given and what it gave. */
export interface Step {
  readonly ids: readonly number[];
  readonly logits: Float32Array;
}

/** Every decoder step of all goldens of this model, one transcript after the other. */
export async function transcripts(folder: string): Promise<readonly (readonly Step[])[]> {
  const goldens = (await readWhisperGoldens()).filter(({ model }) => model === "tiny-whisper");
  assert.ok(goldens.length > 1);
  const all: Step[][] = [];
  for (const { seed, samples: length, logprob_threshold, no_speech_threshold, language } of goldens) {
    const steps: Step[] = [];
    const calls: Call[] = [];
    const spoil = (path: string, { logits }: Record<string, Tensor>): void => {
      const ids = calls.splice(0).at(-1)?.feeds["input_ids"];
      if (path.includes("decoder") && logits?.type === "float32" && ids !== undefined)
        steps.push({ ids: Array.from(ids.data, Number), logits: logits.data.slice() });
    };
    const { options, ...given } = await manifestOf(folder);
    const model = await openWhisperModel({
      ...(await whisperContext("tiny-whisper")),
      manifest: { ...given, options: { ...options, logprob_threshold, no_speech_threshold } },
      modelDir: folder,
      backend: recordingBackend(calls, spoil),
    });
    try {
      const audio = babble(seed, length);
      const samples = (): AsyncIterable<Int16Array> => inPieces(audio);
      const bins = model.config.melBins;
      const survey = await surveyAudio({ samples: samples(), bins, gateDbfs: -60, onPiece: async () => undefined });
      const features = new FeatureReader({ samples: samples(), bins, loudest: survey.loudest });
      const random = (): number => assert.fail("nothing is drawn");
      const windows = transcribe({ ...model, survey, features, language, random, onStep: () => undefined });
      for await (const window of windows) assert.ok(window.language !== "");
      all.push(steps);
    } finally {
      await model.release();
    }
  }
  return all;
}

/** How many steps were given the same tokens from the first on: until then both models were asked the same. */
export function sameSteps(some: readonly Step[], others: readonly Step[]): number {
  const first = some.findIndex(({ ids }, i) => ids.join() !== others[i]?.ids.join());
  return first === -1 ? some.length : first;
}

export function cosine(some: Float32Array, others: Float32Array): number {
  assert.equal(some.length, others.length);
  const product = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * (b[i] ?? NaN), 0);
  return product(some, others) / Math.sqrt(product(some, some) * product(others, others));
}
