import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { mock, test } from "node:test";
import sharp, { type JpegOptions, type Sharp } from "sharp";
import { FLUX_LATENT_RGB } from "../../src/pipelines/diffusion/latent-rgb.ts";
import { LatentPreview } from "../../src/pipelines/diffusion/preview.ts";
import { LTX_LATENT_RGB } from "../../src/pipelines/ltx-video/ltx-latent-rgb.ts";
import { planTiles } from "../../src/pipelines/ltx-video/tiled-decode.ts";
import { videoPreview } from "../../src/pipelines/ltx-video/video-preview.ts";
import { LATENT_CHANNELS } from "../../src/pipelines/ltx-video/video-transformer.ts";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { fluxJob, openTinyRig, present, RecordingContext, type Call } from "../support/flux-rig.ts";
import { ltxJob, openLtxRig } from "../support/ltx-rig.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

/** Previews are the only pictures of so low a quality. */
const PREVIEW_QUALITY = 75;

/** Tells of each progress before it is recorded. */
class ToldContext extends RecordingContext {
  onProgress: (stage: string, step: number) => void = () => undefined;

  override progress(id: string, at: Parameters<RecordingContext["progress"]>[1]): void {
    this.onProgress(at.stage, at.step);
    super.progress(id, at);
  }
}

/** Holds libvips back from reading what previews show until `open` is called. */
function holdPreviews(): { readonly open: () => void } & Disposable {
  const gate = Promise.withResolvers<void>();
  const prototype = Object.getPrototypeOf(sharp(Buffer.alloc(3), { raw: { width: 1, height: 1, channels: 3 } })) as Sharp;
  const encode = prototype.jpeg;
  const toBuffer = prototype.toBuffer as () => Promise<Buffer>;
  const held = mock.method(prototype, "jpeg", function (this: Sharp, options?: JpegOptions): Sharp {
    const image = encode.call(this, options);
    if ((options?.quality ?? 100) > PREVIEW_QUALITY) return image;
    return Object.assign(image, { toBuffer: () => gate.promise.then(() => toBuffer.call(image)) });
  });
  return { open: () => gate.resolve(), [Symbol.dispose]: () => held.mock.restore() };
}

function floats(tensor: Tensor | undefined): Float32Array {
  assert.equal(tensor?.type, "float32");
  return tensor.data;
}

const stepsOf = (calls: readonly Call[]): readonly Call[] => calls.filter(({ path }) => path.includes("/transformer/"));

test("Flux: previews of step 1 are encoded after step 2 has run, and show step 1, each its own picture", async () => {
  const velocities: Float32Array[] = [];
  await using rig = await openTinyRig("tiny-flux-schnell", {
    spoil: (path, results) => {
      if (path.includes("/transformer/")) velocities.push(floats(results["out_hidden_states"]).slice());
    },
  });
  const params = { prompt: "a pond", width: 64, height: 64, steps: 3 };
  const jobs = await Promise.all([1, 2].map((seed) => fluxJob(`p${seed}`, { ...params, seed })));
  const context = new ToldContext();
  const expected: Buffer[] = [];
  {
    using previews = holdPreviews();
    context.onProgress = (stage, step) => {
      if (stage === "denoise" && step === 2) previews.open();
    };
    await rig.pipeline.run(jobs, context, context.end);
    await context.settled();
  }
  const [first] = stepsOf(rig.calls);
  const latents = floats(first?.feeds["hidden_states"]);
  const sigma = present(floats(first?.feeds["timestep"])[0]);
  const rowSize = latents.length / 2;
  const painter = new LatentPreview({ channels: 16, height: 8, width: 8 }, FLUX_LATENT_RGB);
  for (const row of [0, 1]) {
    const part = (values: Float32Array): Float32Array => values.slice(row * rowSize, (row + 1) * rowSize);
    expected.push(Buffer.from(await painter.render(part(latents), part(present(velocities[0])), sigma)));
  }
  const made = jobs.map(({ id }) => context.previews.find((each) => each.id === id && each.step === 1));
  assert.deepEqual(
    made.map((each) => Buffer.from(present(each).jpeg)),
    expected,
  );
  assert.notDeepEqual(expected[0], expected[1]);
});

test("LTX-Video: the preview of step 1 is encoded after step 2 has run, and shows step 1", async () => {
  const velocities: Float32Array[] = [];
  await using rig = await openLtxRig({
    spoil: (path, results) => {
      if (path.includes("/transformer/")) velocities.push(floats(results["out_hidden_states"]).slice());
    },
  });
  const job = await ltxJob("p", { prompt: "waves", width: 64, height: 64, frames: 9, fps: 8, steps: 3, seed: 1, guidance: 1 });
  const context = new ToldContext();
  {
    using previews = holdPreviews();
    context.onProgress = (stage, step) => {
      if (stage === "denoise" && step === 2) previews.open();
    };
    await rig.pipeline.run([job], context, context.end);
    await context.settled();
  }
  const [first] = stepsOf(rig.calls);
  const source = {
    shape: { channels: LATENT_CHANNELS, frames: 2, height: 2, width: 2 },
    latents: floats(first?.feeds["hidden_states"]),
    velocity: present(velocities[0]),
    sigma: present(floats(first?.feeds["timestep"])[0]) / 1000,
  };
  const made = present(context.previews.find(({ step }) => step === 1));
  assert.deepEqual(Buffer.from(made.jpeg), Buffer.from(await videoPreview(source, LTX_LATENT_RGB)));
});

const CLIP = { prompt: "waves", width: 64, height: 64, frames: 41, fps: 8, steps: 1, seed: 1, guidance: 1 };
const TILES = planTiles(6, { size: 16, stride: 8 }).length;
const decodesOf = (calls: readonly Call[]): number => calls.filter(({ path }) => path.includes("/vae_decoder/")).length;

test("LTX-Video: when a tile's frames are written, the next tile's run has begun, and no further one", async () => {
  await using rig = await openLtxRig();
  const job = await ltxJob("clip", CLIP);
  const context = new ToldContext();
  const begun: number[] = [];
  context.onProgress = (stage) => {
    if (stage === "decode") begun.push(decodesOf(rig.calls));
  };
  await rig.pipeline.run([job], context, context.end);
  assert.equal(context.ends.get(job.id)?.ok, true);
  assert.ok(TILES >= 4);
  assert.deepEqual(
    begun,
    Array.from({ length: TILES }, (_, written) => Math.min(written + 2, TILES)),
  );
});

test("LTX-Video: a cancel while frames are written and the next tile is decoded ends both, and leaves no file", async () => {
  await using rig = await openLtxRig();
  const job = await ltxJob("cancelled", CLIP);
  const context = new ToldContext();
  context.onStage = (name, count) => {
    if (name === "decode" && count === 2) context.cancel(job.id);
  };
  await rig.pipeline.run([job], context, context.end);
  const end = present(context.ends.get(job.id));
  assert.equal(end.ok ? "" : (end.error as { code?: string }).code, "CANCELLED");
  assert.deepEqual([decodesOf(rig.calls), context.progressed.filter(({ stage }) => stage === "decode").length], [1, 0]);
  assert.deepEqual(await readdir(job.outDir), []);
});

test("LTX-Video: when the frames cannot be written, the job fails after the tile under way, and the next job runs", async () => {
  await using rig = await openLtxRig();
  const job = await ltxJob("unwritable", CLIP);
  const context = new ToldContext();
  context.onStage = (name, count) => {
    if (name === "decode" && count === 1) rmSync(job.outDir, { recursive: true });
  };
  await rig.pipeline.run([job], context, context.end);
  assert.equal(context.ends.get(job.id)?.ok, false);
  assert.ok(decodesOf(rig.calls) < TILES);
  const next = await ltxJob("next", CLIP);
  await rig.pipeline.run([next], context, context.end);
  assert.equal(context.ends.get(next.id)?.ok, true);
});
