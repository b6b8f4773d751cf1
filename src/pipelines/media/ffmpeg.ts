import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { findProgram } from "../../lib/find-program.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";

/** What one run may use: files from clients are hostile, and ffmpeg has parsers for hundreds of formats. */
export interface FfmpegLimits {
  /** Processor seconds, all threads together. */
  readonly cpuSeconds: number;
  /** Address space. */
  readonly memoryBytes: number;
  /** Largest file that it may write. */
  readonly fileBytes: number;
}

export interface FfmpegOptions {
  /** What the run is for, as messages name it: `decoding speech.mp3`. */
  readonly what: string;
  readonly program?: "ffmpeg" | "ffprobe";
  /** After the options that every run gets. */
  readonly args: readonly string[];
  /** Code of the error when it exits badly by itself: whose fault that is, only the caller knows. */
  readonly failure: ErrorCode;
  readonly limits?: Partial<FfmpegLimits>;
  /** Ends the run. */
  readonly signal?: AbortSignal;
}

/** A run under way. Disposing kills it, and waits until it is gone. */
export interface FfmpegRun extends AsyncDisposable {
  /** Write with backpressure (`drain`), then end it. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Settles when the process is gone. Rejects with AppError `failure` and ffmpeg's last words, or with the signal's reason. */
  readonly ended: Promise<void>;
}

const GIB = 1024 ** 3;
export const FFMPEG_LIMITS: FfmpegLimits = { cpuSeconds: 3_600, memoryBytes: 8 * GIB, fileBytes: 4 * GIB };
/** Quiet but for errors, no questions, no reading of keys. */
const COMMON_ARGS = ["-hide_banner", "-loglevel", "error"] as const;
const MAX_STDERR_CHARS = 4_096;

/**
 * Starts ffmpeg under resource limits, so that it also dies with us: `prlimit` and `setpriv` (util-linux) set both up and then become
 * ffmpeg; on a system without them it runs bare. `DRYAPI_FFMPEG_DIR` names the folder of ffmpeg and ffprobe, else the PATH is searched.
 * @throws AppError MODEL_UNSUPPORTED when there is none
 */
export function openFfmpeg(options: FfmpegOptions): FfmpegRun {
  const { what, program = "ffmpeg", signal } = options;
  signal?.throwIfAborted();
  const binary = findFfmpeg(program);
  const [file, ...args] = [
    ...wrapper(options.limits),
    binary,
    ...COMMON_ARGS,
    ...(program === "ffmpeg" ? ["-nostdin", "-y"] : []),
    ...options.args,
  ];
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn(file ?? binary, args, { stdio: ["pipe", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-MAX_STDERR_CHARS);
  });
  // Whoever reads less than all of the input closes the pipe early: that is told by the exit status, not by the pipe.
  child.stdin.on("error", () => undefined);
  const kill = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", kill, { once: true });
  const gone = settled(child);
  const ended = gone.then((end) => {
    signal?.removeEventListener("abort", kill);
    if (end === 0) return;
    signal?.throwIfAborted();
    throw new AppError(options.failure, `${what}: ${program} ended with ${String(end)}: ${lastLines(stderr)}`);
  });
  // Often nobody waits for it any more once the run is disposed of.
  ended.catch(() => undefined);
  return {
    stdin: child.stdin,
    stdout: child.stdout,
    ended,
    [Symbol.asyncDispose]: async () => {
      kill();
      await gone;
    },
  };
}

/** Exit status, name of the signal, or why it could not be started. */
async function settled(child: ChildProcessByStdio<Writable, Readable, Readable>): Promise<number | string> {
  try {
    const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
    return code ?? signal ?? "no status";
  } catch (thrown) {
    return thrown instanceof Error ? thrown.message : String(thrown);
  }
}

function lastLines(stderr: string): string {
  const lines = stderr.trim().split("\n").slice(-3).join("; ");
  return lines === "" ? "it said nothing" : lines;
}

function wrapper(given: Partial<FfmpegLimits> = {}): readonly string[] {
  const limits = { ...FFMPEG_LIMITS, ...given };
  const prlimit = findProgram("prlimit");
  const setpriv = findProgram("setpriv");
  return [
    ...(prlimit === null
      ? []
      : [prlimit, `--cpu=${limits.cpuSeconds}`, `--as=${limits.memoryBytes}`, `--fsize=${limits.fileBytes}`, "--core=0"]),
    ...(setpriv === null ? [] : [setpriv, "--pdeathsig", "KILL"]),
  ];
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
