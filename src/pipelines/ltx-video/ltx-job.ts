import type { RunnerJob } from "../../protocol/ipc.ts";
import { stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { ParamReader } from "../job-params.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import { latentFrames, nearestFrames, PIXEL_FACTOR, type VideoShape } from "./video-latents.ts";
import { LATENT_CHANNELS } from "./video-transformer.ts";

/** A job's parameters, checked, with the manifest's defaults filled in. */
export interface LtxJob {
  readonly id: string;
  readonly outDir: string;
  readonly prompt: string;
  readonly negativePrompt: string;
  /** Pixels, multiples of 32. */
  readonly width: number;
  readonly height: number;
  /** Sample frames, 8k + 1. */
  readonly frames: number;
  readonly fps: number;
  readonly steps: number;
  /** 1: no guidance, one row a step. */
  readonly guidance: number;
  readonly seed: number;
  /** Given pictures of image-to-video, any size. */
  readonly first: RgbImage | null;
  readonly last: RgbImage | null;
}

export interface LtxJobSource {
  readonly job: RunnerJob;
  readonly manifest: Manifest;
  /** Fewest steps that the schedule can be made of. */
  readonly minSteps: number;
  readonly first: RgbImage | null;
  readonly last: RgbImage | null;
}

/** @throws AppError INVALID_INPUT naming the parameter, its value and what was expected */
export function parseLtxJob({ job, manifest, minSteps, first, last }: LtxJobSource): LtxJob {
  const params = new ParamReader(job.params, manifest);
  const { width, height } = params.size(PIXEL_FACTOR, first);
  const guided = manifest.features["supports_guidance"] === true;
  return {
    id: job.id,
    outDir: job.outDir,
    prompt: stringParam(job.params, "prompt"),
    negativePrompt: params.text("negative_prompt"),
    width,
    height,
    frames: nearestFrames(params.whole("frames", 1)),
    fps: params.whole("fps", 1, 30),
    steps: params.whole("steps", minSteps),
    guidance: guided ? Math.max(1, params.number("guidance", 3)) : 1,
    seed: params.seed(),
    first,
    last,
  };
}

export function shapeOf({ frames, width, height }: LtxJob): VideoShape {
  return { channels: LATENT_CHANNELS, frames: latentFrames(frames), height: height / PIXEL_FACTOR, width: width / PIXEL_FACTOR };
}

/** What the file says about how it was made. */
export function clipTexts(job: LtxJob, model: string): Record<string, string | number> {
  return {
    prompt: job.prompt,
    ...(job.guidance > 1 ? { negative_prompt: job.negativePrompt, guidance: job.guidance } : {}),
    model,
    seed: job.seed,
    steps: job.steps,
    frames: job.frames,
    fps: job.fps,
    size: `${job.width}x${job.height}`,
  };
}
