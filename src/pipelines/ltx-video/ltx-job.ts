import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import { numberParam, stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
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
  const { params } = job;
  const value = (name: string, otherwise?: number): number => {
    const fallback = manifest.defaults[name] ?? otherwise;
    const given = params[name] ?? null;
    const number = given === null && typeof fallback === "number" ? fallback : numberParam(params, name);
    requireWithin(manifest, name, number);
    return number;
  };
  const whole = (name: string, least: number, otherwise?: number): number => {
    const number = value(name, otherwise);
    if (!Number.isInteger(number) || number < least) throw invalid(name, number, `an integer from ${least} on`);
    return number;
  };
  const side = (name: string): number => Math.floor(whole(name, PIXEL_FACTOR) / PIXEL_FACTOR) * PIXEL_FACTOR;
  const guided = manifest.features["supports_guidance"] === true;
  const negativePrompt = params["negative_prompt"];
  return {
    id: job.id,
    outDir: job.outDir,
    prompt: stringParam(params, "prompt"),
    negativePrompt: typeof negativePrompt === "string" ? negativePrompt : "",
    width: side("width"),
    height: side("height"),
    frames: nearestFrames(whole("frames", 1)),
    fps: whole("fps", 1, 30),
    steps: whole("steps", minSteps),
    guidance: guided ? Math.max(1, value("guidance", 3)) : 1,
    seed: seedOf(numberParam(params, "seed")),
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

function seedOf(seed: number): number {
  if (Number.isSafeInteger(seed) && seed >= 0) return seed;
  throw invalid("seed", seed, "an integer from 0 to 2^53-1 (-1 is resolved at submit)");
}

function requireWithin({ limits, slug }: Manifest, name: string, value: number): void {
  const low = limits[`min_${name}`] ?? -Infinity;
  const high = limits[`max_${name}`] ?? Infinity;
  if (value < low || value > high) throw invalid(name, value, `${low} to ${high} for model ${slug}`);
}

function invalid(name: string, value: number, expected: string): AppError {
  return new AppError("INVALID_INPUT", `parameter ${name} is ${value}, expected ${expected}`);
}
