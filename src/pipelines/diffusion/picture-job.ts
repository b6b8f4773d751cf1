import type { RunnerJob } from "../../protocol/ipc.ts";
import { invalidParam, stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { firstStep } from "./flow-match-schedule.ts";
import { ParamReader } from "../job-params.ts";
import type { RgbImage } from "../media/rgb-image.ts";

/** A job's parameters, checked, with the manifest's defaults filled in. */
export interface PictureJob {
  readonly id: string;
  readonly outDir: string;
  readonly prompt: string;
  readonly negativePrompt: string;
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  /** First step that runs: 0 but for image-to-image. */
  readonly start: number;
  /** Null where the model knows no guidance. */
  readonly guidance: number | null;
  /** Above 1: two runs a step, the second for the negative prompt; 1 otherwise. */
  readonly trueCfgScale: number;
  readonly seed: number;
  readonly strength: number | null;
  /** Start picture of image-to-image, any size. */
  readonly image: RgbImage | null;
}

export interface PictureJobSource {
  readonly job: RunnerJob;
  readonly manifest: Manifest;
  readonly hasGuidance: boolean;
  /** Pixels that sides are multiples of. */
  readonly sizeStep: number;
  /** Decoded input of image-to-image; null for text-to-image. */
  readonly image: RgbImage | null;
}

/** @throws AppError INVALID_INPUT naming the parameter, its value and what was expected */
export function parsePictureJob({ job, manifest, hasGuidance, sizeStep, image }: PictureJobSource): PictureJob {
  const params = new ParamReader(job.params, manifest);
  const steps = params.whole("steps", 1);
  const strength = image === null ? null : params.number("strength", 0.6);
  const start = strength === null ? 0 : startOf(steps, strength);
  const { width, height } = params.size(sizeStep, image);
  const scale = params.number("true_cfg_scale", 1);
  return {
    id: job.id,
    outDir: job.outDir,
    prompt: stringParam(job.params, "prompt"),
    negativePrompt: params.text("negative_prompt"),
    width,
    height,
    steps,
    start,
    guidance: hasGuidance ? params.number("guidance", 3.5) : null,
    // As in diffusers, both are needed: a scale alone changes nothing.
    trueCfgScale: scale > 1 && params.has("negative_prompt") ? scale : 1,
    seed: params.seed(),
    strength,
    image,
  };
}

/** Jobs with equal keys can share a run. */
export function groupKey(job: PictureJob): string {
  return [job.width, job.height, job.steps, job.start, job.guidance, job.trueCfgScale].join("|");
}

function startOf(steps: number, strength: number): number {
  if (strength < 0 || strength > 1) throw invalidParam("strength", strength, "0 to 1");
  const start = firstStep(steps, strength);
  if (start < steps) return start;
  throw invalidParam("strength", strength, `at least ${1 / steps}, so that one of ${steps} steps runs`);
}
