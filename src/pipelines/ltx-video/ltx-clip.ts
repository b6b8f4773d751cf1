import { AppError } from "../../protocol/error.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import type { FlowMatchSchedule } from "../diffusion/flow-match-schedule.ts";
import { TorchRandom } from "../diffusion/torch-random.ts";
import type { Output } from "../../protocol/result.ts";
import type { JobRun } from "../job-run.ts";
import { openVideo, type VideoWriter } from "../media/encode-video.ts";
import { resizeLanczos } from "../media/resize-lanczos.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import { frameBytes } from "./frame-block.ts";
import { clipTexts, shapeOf, type LtxJob } from "./ltx-job.ts";
import { LTX_LATENT_RGB } from "./ltx-latent-rgb.ts";
import type { LtxModel } from "./ltx-model.ts";
import { ltxSchedule } from "./ltx-schedule.ts";
import { ropeTables } from "./rope.ts";
import { startVideo, type StartedVideo } from "./start-video.ts";
import { decodeTiles, planTiles, type ReadyFrames, type Tile } from "./tiled-decode.ts";
import { frameValues } from "./video-decoder.ts";
import type { TextEmbedding } from "./video-prompts.ts";
import { VideoDenoising } from "./video-denoising.ts";
import { sizeOf, sliceFrames, tokensOf, unpackFrames, type VideoShape } from "./video-latents.ts";
import { videoPreview } from "./video-preview.ts";

/** Share of a job's work that is done after each stage, for the progress bar; steps and tiles divide theirs. */
const AFTER_TEXT = 0.03;
const AFTER_STEPS = 0.8;
const AFTER_DECODE = 0.98;

/** One clip on its way from text to file. */
export class LtxClip {
  readonly #model: LtxModel;
  readonly #run: JobRun;
  readonly #job: LtxJob;
  readonly #shape: VideoShape;
  readonly #schedule: FlowMatchSchedule;
  readonly #random: TorchRandom;

  constructor(run: JobRun, model: LtxModel, job: LtxJob) {
    const { config } = model;
    this.#run = run;
    this.#model = model;
    this.#job = job;
    this.#shape = shapeOf(job);
    this.#random = new TorchRandom(job.seed);
    this.#schedule = ltxSchedule({
      config: config.schedule,
      mode: config.mode,
      steps: job.steps,
      tokens: tokensOf(this.#shape),
      timesteps: config.timesteps,
    });
  }

  /** @throws AppError CANCELLED between steps and tiles, and whatever concerns the job or the device */
  async make(): Promise<Output> {
    this.#run.spend("run");
    const { texts, cached } = await this.#encodeTexts();
    const started = await this.#start();
    const packed = await this.#denoise(texts, started);
    const files = await this.#decode(packed);
    const job = this.#job;
    const facts = { width: job.width, height: job.height, frames: job.frames, fps: job.fps, duration_s: job.frames / job.fps };
    const { slug } = this.#run.manifest;
    return {
      files,
      seed: job.seed,
      info: { ...facts, steps: job.steps, model: slug, text_cached: cached, encoder: this.#model.h264.name },
    };
  }

  /** Negative prompt first, as in the pipelines. */
  async #encodeTexts(): Promise<{ readonly texts: readonly TextEmbedding[]; readonly cached: boolean }> {
    const { prompt, negativePrompt, guidance } = this.#job;
    const announce = (): Promise<void> => this.#enter("text");
    const { embedding, cached } = await this.#model.prompts.encode(prompt, announce);
    const texts = guidance > 1 ? [(await this.#model.prompts.encode(negativePrompt, announce)).embedding, embedding] : [embedding];
    this.#progress("text", AFTER_TEXT);
    return { texts, cached };
  }

  async #start(): Promise<StartedVideo> {
    const { first, last } = this.#job;
    return startVideo({
      random: this.#random,
      shape: this.#shape,
      mode: this.#model.config.mode,
      first: first === null ? null : await this.#encodePicture(first),
      last: last === null ? null : await this.#encodePicture(last),
    });
  }

  async #encodePicture(image: RgbImage): Promise<Float32Array> {
    const { encoder } = this.#model;
    if (encoder === null) throw new RangeError("a picture for a model that takes none: this is a bug");
    await this.#enter("encode_input");
    return encoder.encode(resizeLanczos(image, this.#job.width, this.#job.height));
  }

  /** The clip's tokens, `[tokens, channels]`, without those of further given pictures. */
  async #denoise(texts: readonly TextEmbedding[], { latents, given }: StartedVideo): Promise<Float32Array> {
    const { transformer, config } = this.#model;
    const { fps, frames, guidance, steps, last } = this.#job;
    const extra = latents.length - sizeOf(this.#shape);
    const rope = ropeTables({
      shape: this.#shape,
      fps,
      placement: config.mode,
      width: transformer.width,
      extraFrames: last === null ? [] : [frames - 1],
    });
    await this.#ready("denoise");
    using run = transformer.open({ texts, rope });
    const denoising = new VideoDenoising({
      schedule: this.#schedule,
      latents,
      channels: this.#shape.channels,
      given,
      velocity: run,
      guidance,
      givenNoise: config.imageNoiseScale > 0 ? { random: this.#random, scale: config.imageNoiseScale } : null,
    });
    for (let index = 0; index < steps; index++) {
      const startedAt = performance.now();
      this.#run.begin("denoise");
      const velocity = await denoising.velocity(index);
      this.#showPreview(latents.subarray(extra), velocity.subarray(extra), index);
      denoising.advance(index, velocity);
      const fraction = AFTER_TEXT + ((AFTER_STEPS - AFTER_TEXT) * (index + 1)) / steps;
      this.#progress("denoise", fraction, index + 1, performance.now() - startedAt);
    }
    return latents.subarray(extra);
  }

  #showPreview(latents: Float32Array, velocity: Float32Array, index: number): void {
    const source = { shape: this.#shape, latents, velocity, sigma: this.#schedule.sigmas[index]! };
    this.#run.preview(index + 1, () => videoPreview(source, LTX_LATENT_RGB));
  }

  /** Tile by tile into the encoder, the next one decoded meanwhile: two tiles of frames are all that is ever held. */
  async #decode(packed: Float32Array): Promise<readonly SpoolFile[]> {
    const { config, h264 } = this.#model;
    const { outDir, width, height, fps, frames } = this.#job;
    const tiles = planTiles(this.#shape.frames, config.tiling);
    const comment = JSON.stringify(clipTexts(this.#job, this.#run.manifest.slug));
    await using video = openVideo({ outDir, width, height, fps, frames, encoder: h264, comment });
    let done = 0;
    await this.#ready("decode");
    for await (const ready of decodeTiles(tiles, config.tiling, this.#tileDecoder(packed, tiles))) {
      await this.#write(video, ready);
      done += ready.keep;
      this.#progress("decode", AFTER_STEPS + ((AFTER_DECODE - AFTER_STEPS) * done) / frames, this.#job.steps);
    }
    this.#run.begin("encode");
    this.#run.spend("encode");
    return await video.finish();
  }

  #tileDecoder(packed: Float32Array, tiles: readonly Tile[]): (tile: Tile, index: number) => ReturnType<LtxModel["decoder"]["decode"]> {
    const { decoder, config } = this.#model;
    const shape = this.#shape;
    const frames = Math.max(...tiles.map(({ count }) => count));
    // Taken in turns: a tile's frames are no longer used when the next but one is decoded.
    const memory = [0, 1].map(() => new Float32Array(frameValues({ ...shape, frames })));
    // Drawn for the whole clip: channels come before frames, so that a tile's noise is spread over all of it.
    const noise = decoder.conditioned ? this.#random.randn(packed.length) : null;
    return async ({ first, count }, index) => {
      this.#run.begin("decode");
      const mix =
        noise === null
          ? null
          : {
              noise: sliceFrames(noise, shape, first, count),
              scale: config.decodeNoiseScale,
              timestep: config.decodeTimestep,
            };
      return decoder.decode(unpackFrames(packed, shape, first, count), { ...shape, frames: count }, mix, memory[index % 2]);
    };
  }

  /** @throws AppError CANCELLED, and what the decode beside it has failed with */
  async #write(video: VideoWriter, { block, keep, throwIfFailed }: ReadyFrames): Promise<void> {
    this.#run.spend("encode");
    for (let index = 0; index < keep; index++) {
      throwIfFailed();
      this.#run.throwIfCancelled();
      const rgb = frameBytes(block, index);
      if (rgb === null) throw notFinite();
      await video.write(rgb);
    }
    this.#run.spend("run");
  }

  /** Begins a stage, once its graphs are open. @throws AppError CANCELLED, and as OpenGraphs.enter */
  async #enter(stage: string): Promise<void> {
    await this.#ready(stage);
    this.#run.begin(stage);
  }

  #ready(stage: string): Promise<void> {
    return this.#model.enter(stage, (load) => this.#run.begin(load));
  }

  #progress(stage: string, fraction: number, step = 0, stepMs = 0): void {
    this.#run.progress(stage, fraction, { step, steps: this.#job.steps, stepMs });
  }
}

function notFinite(): AppError {
  return new AppError(
    "BAD_OUTPUT",
    "part vae_decoder gave values that are not finite, or got such from part transformer: most likely an overflow in float16; export with --dtype float32 (scripts/export/README.md)",
  );
}
