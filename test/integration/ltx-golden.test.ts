import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { openT5Tokenizer } from "../../src/pipelines/diffusion/tokenize.ts";
import { frameBytes, type FrameBlock } from "../../src/pipelines/ltx-video/frame-block.ts";
import { decodeTiles, planTiles } from "../../src/pipelines/ltx-video/tiled-decode.ts";
import { LATENT_CHANNELS } from "../../src/pipelines/ltx-video/video-transformer.ts";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { largestDifference, MODELS, present, RecordingContext, type Call } from "../support/flux-rig.ts";
import {
  framesOf,
  LTX_FIXTURES,
  ltxJob,
  openLtxRig,
  probeVideo,
  readLtxGoldens,
  TINY_LTX,
  type LtxGolden,
  type LtxRig,
} from "../support/ltx-rig.ts";
import { bound } from "../support/test-device.ts";

const LATENT_TOLERANCE = bound({ cpu: 1e-3, cuda: 5e-3 });
/** Levels of 255, before H.264. */
const PIXEL_TOLERANCE = bound({ cpu: 2, cuda: 4 });

const goldens = await readLtxGoldens();
const rigs = new Map<string, LtxRig>();
after(async () => {
  for (const rig of rigs.values()) await rig[Symbol.asyncDispose]();
});

/** The tiny model with the settings that the golden was made with; equal ones share a rig. What the decoder gave is kept. */
async function rigOf({ case: golden }: LtxGolden, samples: Tensor[]): Promise<LtxRig> {
  const [size, stride] = golden.tile ?? [256, 248];
  const options = {
    mode: golden.mode,
    timesteps: golden.timesteps,
    image_cond_noise_scale: golden.image_cond_noise_scale,
    tile_frames: size,
    tile_stride_frames: stride,
  };
  const files = golden.mode === "classic" ? { scheduler: "scheduler_classic/scheduler_config.json" } : {};
  const rig = await openLtxRig({
    options,
    manifest: { files },
    spoil: (path, results) => {
      const sample = results["sample"];
      if (path.includes("/vae_decoder/") && sample !== undefined) samples.push(structuredClone(sample));
    },
  });
  rigs.set(golden.prompt, rig);
  return rig;
}

function floats(tensor: Tensor | undefined): Float32Array {
  assert.equal(tensor?.type, "float32");
  return tensor.data;
}

/** Packed latents before each step, as the transformer got them: the last row, where there are two. */
function statesOf(calls: readonly Call[], { case: golden }: LtxGolden): Float32Array[] {
  const [, tokens, channels] = golden.latent_shape;
  return calls
    .filter(({ path }) => path.includes("/transformer/"))
    .map(({ feeds }) => floats(feeds["hidden_states"]).slice(-tokens * channels));
}

/** The frames as they go to the encoder, put together again from what the decoder gave. */
async function framesBefore(samples: readonly Tensor[], { case: golden }: LtxGolden): Promise<Buffer> {
  const [size, stride] = golden.tile ?? [256, 248];
  const tiles = planTiles((golden.frames - 1) / 8 + 1, { size, stride });
  assert.equal(samples.length, tiles.length);
  const blocks = samples.map((sample): FrameBlock => {
    const [, , frames = 0, height = 0, width = 0] = sample.dims;
    return { data: floats(sample), frames, height, width };
  });
  const frames: Buffer[] = [];
  const decode = async (tile: (typeof tiles)[number]): Promise<FrameBlock> => present(blocks[tiles.indexOf(tile)]);
  for await (const { block, keep } of decodeTiles(tiles, { size, stride }, decode)) {
    for (let index = 0; index < keep; index++) frames.push(Buffer.from(frameBytes(block, index) ?? []));
  }
  return Buffer.concat(frames);
}

function lumaOf(pixels: Buffer): Float32Array {
  return Float32Array.from({ length: pixels.length / 3 }, (_, i) => {
    const [red = 0, green = 0, blue = 0] = pixels.subarray(i * 3, i * 3 + 3);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  });
}

function squaredError(some: Float32Array, others: Float32Array): number {
  return some.reduce((sum, value, i) => sum + (value - (others[i] ?? NaN)) ** 2, 0) / some.length;
}

function cropped(pixels: Buffer, { case: { width, height, frames, crop } }: LtxGolden): Buffer {
  const [x, y, w, h] = crop ?? [0, 0, width, height];
  const rows = Array.from({ length: frames * h }, (_, i) => {
    const start = ((Math.floor(i / h) * height + y + (i % h)) * width + x) * 3;
    return pixels.subarray(start, start + w * 3);
  });
  return Buffer.concat(rows);
}

test("there are goldens of every kind", () => {
  const kinds = new Set(goldens.map(({ case: { mode, image, tile } }) => `${mode} ${image === null ? "text" : "image"} ${tile !== null}`));
  for (const kind of [
    "condition text false",
    "condition image false",
    "condition text true",
    "classic text false",
    "classic image false",
  ]) {
    assert.ok(kinds.has(kind), `none is ${kind}`);
  }
  assert.ok(goldens.some((golden) => golden.case.guidance > 1 && golden.case.mode === "condition"));
  assert.ok(goldens.some((golden) => golden.case.last_image !== null && golden.case.image_cond_noise_scale > 0));
});

for (const golden of goldens) {
  test(`${golden.name} equals diffusers in the latents of every step and in every frame`, async () => {
    const samples: Tensor[] = [];
    const rig = await rigOf(golden, samples);
    const { prompt, negative_prompt, width, height, frames, fps, steps, seed, guidance, image, last_image } = golden.case;
    const fixture = (name: string): string => new URL(name, LTX_FIXTURES).pathname;
    const pictures = {
      ...(image === null ? {} : { first_frame_image: fixture(image) }),
      ...(last_image === null ? {} : { last_frame_image: fixture(last_image) }),
    };
    const job = await ltxJob(golden.name, { prompt, negative_prompt, width, height, frames, fps, steps, seed, guidance }, pictures);
    const context = new RecordingContext();
    await rig.pipeline.run([job], context, context.end);
    const end = context.ends.get(job.id);
    assert.ok(end?.ok === true, String(end?.ok === false ? end.error : "no end"));

    const states = statesOf(rig.calls, golden);
    assert.equal(states.length, golden.latents.length - 1);
    const noised =
      golden.case.image_cond_noise_scale > 0 ? Object.keys(pictures).length * (width / 32) * (height / 32) * LATENT_CHANNELS : 0;
    for (const [index, state] of states.entries()) {
      const expected = Float32Array.from(present(golden.latents[index]));
      // What is given gets its noise right before the step, and keeps it until the next: the golden has it after the step.
      expected.set(present(golden.latents[index + 1]).subarray(0, noised));
      const difference = largestDifference(state, expected);
      assert.ok(difference <= LATENT_TOLERANCE, `latents before step ${index} differ by ${difference}`);
    }
    const before = await framesBefore(samples, golden);
    const difference = largestDifference(cropped(before, golden), golden.pixels);
    assert.ok(difference <= PIXEL_TOLERANCE, `frames differ by ${difference} levels`);

    const path = join(job.outDir, "video.mp4");
    const probed = await probeVideo(path);
    assert.deepEqual(
      [probed.codec_name, probed.pix_fmt, probed.color_space, probed.width, probed.height, probed.nb_read_frames, probed.r_frame_rate],
      ["h264", "yuv420p", "bt709", width, height, String(frames), `${fps}/1`],
    );
    const shown = await framesOf(path);
    assert.equal(shown.length, before.length);
    // Random weights give colour noise, which 4:2:0 blurs: brightness is compared. That these are the right frames shows against the next.
    const [ours, theirs] = [lumaOf(before), lumaOf(shown)];
    const error = squaredError(ours, theirs);
    const shifted = squaredError(ours.subarray(width * height), theirs);
    assert.ok(error < shifted / 2, `squared error ${error}, one frame later ${shifted}`);
  });

  test(`${golden.name}: ids equal those of transformers' tokenizer`, async () => {
    const { t5_ids, t5_mask, prompt } = golden.case;
    const tokenizer = await openT5Tokenizer(new URL(`${TINY_LTX}/tokenizer`, MODELS).pathname, t5_ids.length);
    const { ids, used } = tokenizer.encodeCounted(prompt);
    assert.deepEqual(ids, t5_ids);
    assert.equal(used, t5_mask.indexOf(0));
  });
}
