import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { findProgram } from "../lib/find-program.ts";
import { AppError, type ErrorCode } from "../protocol/error.ts";
import { diskFull } from "../protocol/disk-full.ts";

/** What one run may use. */
export interface ProgramLimits {
  /** Processor seconds, all threads together. */
  readonly cpuSeconds: number;
  /** Address space. */
  readonly memoryBytes: number;
  /** Largest file that it may write. */
  readonly fileBytes: number;
}

export interface ProgramOptions {
  /** What the run is for, as messages name it: `decoding speech.mp3`. */
  readonly what: string;
  /** Absolute path of the executable. */
  readonly file: string;
  readonly args: readonly string[];
  /** Code of the error when the program exits badly by itself: whose fault that is, only the caller knows. */
  readonly failure: ErrorCode;
  readonly limits: ProgramLimits;
  /** Ends the run. */
  readonly signal?: AbortSignal;
}

/** A run under way. Disposing kills the program and waits until it is gone. */
export interface ProgramRun extends AsyncDisposable {
  readonly stdout: Readable;
  /** Hands bytes to the program's input; waits while it is behind. @throws AppError as `ended`, at once when the program dies */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends the input and waits for the exit. @throws AppError as `ended` */
  finish(): Promise<void>;
  /**
   * Settles when the program is gone. Rejects with `failure` and its last words, SPOOL_FULL when those say that the disk is full, INTERNAL
   * when it could not be started or somebody else killed it, or the signal's reason.
   */
  readonly ended: Promise<void>;
}

const MAX_STDERR_CHARS = 4_096;
/** What we set limits with ends by these; any other kill comes from outside, most often from a kernel that is short of memory. */
const KILLED_FROM_OUTSIDE: ReadonlySet<string> = new Set(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"]);

/**
 * Starts a helper program (ffmpeg, espeak-ng) under resource limits, so that it also dies with us: `prlimit` and `setpriv` (util-linux)
 * set both up and then become the program; on a system without them it runs bare. Everything that waits for the program, waits for its
 * death as well.
 * @throws AppError INTERNAL when this process has no file descriptor left for it
 */
export function openProgram(options: ProgramOptions): ProgramRun {
  options.signal?.throwIfAborted();
  const child = spawnLimited(options);
  return new HelperProgram(child, options);
}

class HelperProgram implements ProgramRun {
  readonly stdout: Readable;
  readonly ended: Promise<void>;
  readonly #child: ChildWithPipes;
  readonly #options: ProgramOptions;
  readonly #gone: Promise<unknown>;
  /** Aborted once the program is gone, so that no waiting for its input outlives it. */
  readonly #over = new AbortController();

  constructor(child: ChildWithPipes, options: ProgramOptions) {
    const { signal } = options;
    this.stdout = child.stdout;
    this.#child = child;
    this.#options = options;
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-MAX_STDERR_CHARS);
    });
    // A program that reads less than all of its input closes the pipe early: its exit says why.
    child.stdin.on("error", () => undefined);
    const kill = (): void => killAll(child);
    signal?.addEventListener("abort", kill, { once: true });
    const gone = exitOf(child);
    this.#gone = gone;
    this.ended = gone.then((exit) => {
      this.#over.abort();
      signal?.removeEventListener("abort", kill);
      if (exit === 0) return;
      signal?.throwIfAborted();
      throw this.#failure(exit, stderr);
    });
    // Often nobody waits for it any more once the run is disposed of.
    this.ended.catch(() => undefined);
  }

  async write(bytes: Uint8Array): Promise<void> {
    const { stdin } = this.#child;
    if (!this.#over.signal.aborted && stdin.write(bytes)) return;
    if (!this.#over.signal.aborted) {
      const drained = await once(stdin, "drain", { signal: this.#over.signal }).then(
        () => true,
        () => false,
      );
      if (drained) return;
    }
    await this.ended;
    throw new AppError(this.#options.failure, `${this.#options.what}: ${this.#name} ended before it had all of its input`);
  }

  finish(): Promise<void> {
    this.#child.stdin.end();
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    killAll(this.#child);
    // Output that nobody reads any more would keep the pipe, and with it the end of the process, open.
    this.#child.stdout.destroy();
    await this.#gone;
  }

  get #name(): string {
    return this.#options.file.slice(this.#options.file.lastIndexOf("/") + 1);
  }

  #failure(exit: number | string | Error, stderr: string): AppError {
    const { what, failure } = this.#options;
    if (exit instanceof Error)
      return new AppError("INTERNAL", `${what}: ${this.#name} cannot be started: ${exit.message}`, { cause: exit });
    const text = `${what}: ${this.#name} ended with ${exit}: ${lastLines(stderr)}`;
    const full = diskFull(new Error(text));
    if (full !== null) return full;
    if (typeof exit === "string" && KILLED_FROM_OUTSIDE.has(exit))
      return new AppError("INTERNAL", `${text} (killed from outside; most often by the kernel when memory runs out)`);
    return new AppError(failure, text);
  }
}

interface ChildWithPipes extends ChildProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
}

function spawnLimited({ what, file, args, limits }: ProgramOptions): ChildWithPipes {
  const [first = file, ...rest] = [...wrapper(limits), file, ...args];
  // A process group of its own, see killAll.
  const child = spawn(first, rest, { stdio: ["pipe", "pipe", "pipe"], detached: true });
  // Out of descriptors there are no pipes, and the error that follows has no other listener.
  if (child.stdin === undefined || child.stdin === null) {
    child.on("error", () => undefined);
    throw new AppError(
      "INTERNAL",
      `${what}: ${file} cannot be started: this process has no file descriptors left; raise its limit (ulimit -n)`,
    );
  }
  return child;
}

/** With all that it started: a program that is a script would leave its own program behind, and that would hold the pipes open. */
function killAll(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    child.kill("SIGKILL");
  }
}

/** Exit status, name of the signal, or why the program could not be started. */
async function exitOf(child: ChildProcess): Promise<number | string | Error> {
  try {
    const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
    return code ?? signal ?? "no status";
  } catch (thrown) {
    return thrown instanceof Error ? thrown : new Error(String(thrown));
  }
}

function lastLines(stderr: string): string {
  const lines = stderr.trim().split("\n").slice(-3).join("; ");
  return lines === "" ? "it said nothing" : lines;
}

function wrapper(limits: ProgramLimits): readonly string[] {
  const prlimit = findProgram("prlimit");
  const setpriv = findProgram("setpriv");
  // Soft below hard: too much processor time then ends in SIGXCPU, which nobody but us sets off.
  const { cpuSeconds, memoryBytes, fileBytes } = limits;
  const bounds = [`--cpu=${cpuSeconds}:${cpuSeconds + 5}`, `--as=${memoryBytes}`, `--fsize=${fileBytes}`, "--core=0"];
  return [...(prlimit === null ? [] : [prlimit, ...bounds]), ...(setpriv === null ? [] : [setpriv, "--pdeathsig", "KILL"])];
}
