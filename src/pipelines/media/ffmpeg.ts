import { findProgram } from "../../lib/find-program.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import { openProgram, type ProgramLimits, type ProgramRun } from "../helper-program.ts";

export interface FfmpegOptions {
  /** What the run is for, as messages name it: `decoding speech.mp3`. */
  readonly what: string;
  readonly program?: "ffmpeg" | "ffprobe";
  /** After the options that every run gets. */
  readonly args: readonly string[];
  /** Code of the error when it exits badly by itself. */
  readonly failure: ErrorCode;
  readonly limits?: Partial<ProgramLimits>;
  /** Ends the run. */
  readonly signal?: AbortSignal;
}

const GIB = 1024 ** 3;
/** Files from clients are hostile, and ffmpeg has parsers for hundreds of formats. */
export const FFMPEG_LIMITS: ProgramLimits = { cpuSeconds: 3_600, memoryBytes: 8 * GIB, fileBytes: 4 * GIB };
/** Quiet but for errors, no questions, no reading of keys. */
const COMMON_ARGS = ["-hide_banner", "-loglevel", "error"] as const;

/**
 * Starts ffmpeg or ffprobe. `DRYAPI_FFMPEG_DIR` names the folder of both, else the PATH is searched.
 * @throws AppError MODEL_UNSUPPORTED when there is none
 */
export function openFfmpeg({ what, program = "ffmpeg", args, failure, limits, signal }: FfmpegOptions): ProgramRun {
  return openProgram({
    what,
    file: findFfmpeg(program),
    args: [...COMMON_ARGS, ...(program === "ffmpeg" ? ["-nostdin", "-y"] : []), ...args],
    failure,
    limits: { ...FFMPEG_LIMITS, ...limits },
    ...(signal !== undefined && { signal }),
  });
}

/** Path of ffmpeg or ffprobe. @throws AppError MODEL_UNSUPPORTED that says what to install */
export function findFfmpeg(program: "ffmpeg" | "ffprobe" = "ffmpeg"): string {
  const dir = process.env["DRYAPI_FFMPEG_DIR"];
  const found = findProgram(program, dir === undefined || dir === "" ? undefined : [dir]);
  if (found !== null) return found;
  const where = dir === undefined || dir === "" ? "in the PATH" : `in DRYAPI_FFMPEG_DIR ${dir}`;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `${program} was not found ${where}: install it (Debian: apt-get install ffmpeg), audio and video need it`,
  );
}
