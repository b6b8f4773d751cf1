import type { RunnerJob } from "../../protocol/ipc.ts";
import { invalidParam, stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { ParamReader } from "../job-params.ts";
import type { AudioFormat } from "../media/encode-audio.ts";

/** A job's parameters, checked, with the manifest's defaults filled in. */
export interface MusicgenJob {
  readonly id: string;
  readonly outDir: string;
  readonly caption: string;
  /** Seconds. */
  readonly duration: number;
  /** 1: none. */
  readonly guidance: number;
  readonly seed: number;
  readonly format: AudioFormat;
}

const DEFAULT_GUIDANCE = 3;

/** @throws AppError INVALID_INPUT naming the parameter, its value and what was expected */
export function parseMusicgenJob({ id, outDir, params: given }: RunnerJob, manifest: Manifest): MusicgenJob {
  const params = new ParamReader(given, manifest);
  const duration = params.number("duration", 10);
  if (duration <= 0) throw invalidParam("duration", duration, "more than 0 seconds");
  const guidance = params.number("guidance_scale", DEFAULT_GUIDANCE);
  return { id, outDir, caption: stringParam(given, "caption"), duration, guidance, seed: params.seed(), format: params.audioFormat() };
}
