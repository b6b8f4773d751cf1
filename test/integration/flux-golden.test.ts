import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import sharp from "sharp";
import { packLatents } from "../../src/pipelines/diffusion/latents.ts";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { openClipTokenizer, openT5Tokenizer } from "../../src/pipelines/diffusion/tokenize.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import {
  FLUX_FIXTURES,
  fluxJob,
  largestDifference,
  MODELS,
  openTinyRig,
  pixelsOf,
  present,
  readGoldens,
  RecordingContext,
  type Call,
  type FluxRig,
  type Golden,
} from "../support/flux-rig.ts";
import { bound } from "../support/test-device.ts";

const LATENT_TOLERANCE = bound({ cpu: 1e-3, cuda: 5e-3 });
const PIXEL_TOLERANCE = bound({ cpu: 2, cuda: 4 });
const VAE_SCALE = Math.fround(0.3611);
const VAE_SHIFT = Math.fround(0.1159);

const goldens = await readGoldens();
const outDirs: string[] = [];
const rigs = new Map<string, FluxRig>();

before(async () => {
  for (const slug of new Set(goldens.map((golden) => golden.case.model))) rigs.set(slug, await openTinyRig(slug));
});
after(async () => {
  for (const rig of rigs.values()) await rig[Symbol.asyncDispose]();
  await Promise.all(outDirs.map((dir) => rm(dir, { recursive: true })));
});

async function jobsOf({ case: golden }: Golden): Promise<RunnerJob[]> {
  const prompts = [golden.prompt].flat();
  const seeds = [golden.seed].flat();
  const { width, height, steps, guidance, strength } = golden;
  const image = golden.image === undefined ? undefined : new URL(golden.image, FLUX_FIXTURES).pathname;
  const jobs = prompts.map((prompt, row) =>
    fluxJob(`golden-${row}`, { prompt, width, height, steps, guidance, seed: present(seeds[row]), strength: strength ?? null }, image),
  );
  const made = await Promise.all(jobs);
  outDirs.push(...made.map(({ outDir }) => outDir));
  return made;
}

function floats(tensor: Tensor | undefined): Float32Array {
  assert.equal(tensor?.type, "float32");
  return tensor.data;
}

/** Packed latents before each step, as the transformer got them, and after the last one, as the decoder got them. */
function statesOf(calls: readonly Call[], { case: golden }: Golden): Float32Array[] {
  const [, rows] = golden.latent_shape;
  const before = calls.filter(({ path }) => path.includes("/transformer/")).map(({ feeds }) => floats(feeds["hidden_states"]));
  const shape = { channels: 16, height: golden.height / 8, width: golden.width / 8 };
  const size = shape.channels * shape.height * shape.width;
  const last = new Float32Array(rows * size);
  const decoded = calls.filter(({ path }) => path.includes("/vae_decoder/"));
  for (const [row, { feeds }] of decoded.entries()) {
    const latents = floats(feeds["latent_sample"]).map((value) => (value - VAE_SHIFT) * VAE_SCALE);
    packLatents(latents, shape, last.subarray(row * size, (row + 1) * size));
  }
  return [...before, last];
}

test("there are goldens of every kind", () => {
  assert.ok(goldens.length >= 12, `${goldens.length} goldens in ${FLUX_FIXTURES.pathname}`);
  assert.deepEqual([...new Set(goldens.map((golden) => golden.case.task))].toSorted(), ["img2img", "txt2img"]);
  assert.deepEqual([...new Set(goldens.map((golden) => golden.case.model))].toSorted(), ["tiny-flux-dev", "tiny-flux-schnell"]);
  assert.ok(goldens.some((golden) => Array.isArray(golden.case.prompt)));
});

for (const golden of goldens) {
  test(`${golden.name} equals diffusers in the latents of every step and in the picture`, async () => {
    const rig = present(rigs.get(golden.case.model));
    const jobs = await jobsOf(golden);
    const context = new RecordingContext();
    rig.calls.length = 0;
    await rig.pipeline.run(jobs, context, context.end);
    const states = statesOf(rig.calls, golden);
    assert.equal(states.length, golden.latents.length);
    for (const [state, expected] of golden.latents.entries()) {
      const difference = largestDifference(present(states[state]), expected);
      assert.ok(difference <= LATENT_TOLERANCE, `latents after ${state} steps differ by ${difference}`);
    }
    for (const [row, job] of jobs.entries()) {
      const end = context.ends.get(job.id);
      assert.ok(end?.ok === true, String(end?.ok === false ? end.error : "no end"));
      const difference = largestDifference(await pixelsOf(join(job.outDir, "image.png")), present(golden.pictures[row]));
      assert.ok(difference <= PIXEL_TOLERANCE, `picture ${row} differs by ${difference}`);
    }
  });

  test(`${golden.name}: ids equal those of transformers' tokenizers`, async () => {
    const prompts = [golden.case.prompt].flat();
    const clipIds = [golden.case.clip_ids].flat(2);
    const t5Ids = [golden.case.t5_ids].flat(2);
    const clip = await openClipTokenizer(new URL(`${golden.case.model}/tokenizer`, MODELS).pathname, 77);
    const t5 = await openT5Tokenizer(new URL(`${golden.case.model}/tokenizer_2`, MODELS).pathname, t5Ids.length / prompts.length);
    for (const [row, prompt] of prompts.entries()) {
      assert.deepEqual(clip.encode(prompt), clipIds.slice(row * 77, (row + 1) * 77));
      assert.deepEqual(t5.encode(prompt), t5Ids.slice(row * t5.length, (row + 1) * t5.length));
    }
  });
}

test("a batch of two gives the pictures that each job gives alone", async () => {
  const golden = present(goldens.find(({ name }) => name === "schnell-batch"));
  const rig = present(rigs.get(golden.case.model));
  const together = await jobsOf(golden);
  const alone = await jobsOf(golden);
  const context = new RecordingContext();
  await rig.pipeline.run(together, context, context.end);
  for (const job of alone) {
    const single = new RecordingContext();
    await rig.pipeline.run([job], single, single.end);
  }
  for (const [row, job] of together.entries()) {
    const difference = largestDifference(
      await pixelsOf(join(job.outDir, "image.png")),
      await pixelsOf(join(present(alone[row]).outDir, "image.png")),
    );
    assert.ok(difference <= 1, `picture ${row} differs by ${difference}`);
  }
});

test("the PNG says how it was made, and both alternatives show the same picture", async () => {
  const golden = present(goldens.find(({ name }) => name === "dev-img2img-60"));
  const rig = present(rigs.get(golden.case.model));
  const [job] = await jobsOf(golden);
  const context = new RecordingContext();
  await rig.pipeline.run([present(job)], context, context.end);
  const { comments } = await sharp(await readFile(join(present(job).outDir, "image.png"))).metadata();
  assert.deepEqual(Object.fromEntries(present(comments).map(({ keyword, text }) => [keyword, text])), {
    prompt: golden.case.prompt,
    model: "tiny-flux-dev",
    seed: "42",
    steps: "6",
    guidance: "7",
    strength: "0.6",
    size: "128x128",
  });
  for (const name of ["image.webp", "image.jpg"]) {
    const { width, height } = await sharp(join(present(job).outDir, name)).metadata();
    assert.deepEqual([width, height], [128, 128]);
  }
});
