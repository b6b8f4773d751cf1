import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import { numberParam, stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { isAudioFormat, type AudioFormat } from "../media/encode-audio.ts";

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
export function parseMusicgenJob({ id, outDir, params }: RunnerJob, { limits, defaults, slug }: Manifest): MusicgenJob {
  const number = (name: string, fallback: number): number => {
    const isGiven = params[name] !== undefined && params[name] !== null;
    const otherwise = defaults[name];
    const value = isGiven ? numberParam(params, name) : typeof otherwise === "number" ? otherwise : fallback;
    const [low, high] = [limits[`min_${name}`] ?? -Infinity, limits[`max_${name}`] ?? Infinity];
    if (value < low || value > high) throw invalid(name, value, `${low} to ${high} for model ${slug}`);
    return value;
  };
  const format = params["format"] ?? defaults["format"] ?? "mp3";
  if (!isAudioFormat(format)) throw invalid("format", JSON.stringify(format), "mp3, wav, flac or ogg");
  const duration = number("duration", 10);
  if (duration <= 0) throw invalid("duration", duration, "more than 0 seconds");
  const guidance = number("guidance_scale", DEFAULT_GUIDANCE);
  return { id, outDir, caption: stringParam(params, "caption"), duration, guidance, seed: numberParam(params, "seed"), format };
}

function invalid(name: string, value: number | string, expected: string): AppError {
  return new AppError("INVALID_INPUT", `parameter ${name} is ${value}, expected ${expected}`);
}
