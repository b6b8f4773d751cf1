import type { ErrorData } from "../../protocol/error.ts";
import type { DeviceSpec, JobDoneMessage, RunnerJob, RunnerMessage } from "../../protocol/ipc.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { RuntimeOptions } from "../../protocol/runtime-options.ts";

/** The part of the logger that a runner's supervisor needs (pino's order: fields, then text). */
export interface RunnerLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Starts a timer; the returned function stops it. Injected so that deadlines can be tested without waiting. */
export type Schedule = (run: () => void, delayMs: number) => () => void;

export interface RunnerOptions {
  readonly manifest: Manifest;
  /** Absolute folder that holds the manifest's files. */
  readonly modelDir: string;
  /** `id` is what black boxes and log lines call it, e.g. `cuda:0`. */
  readonly device: DeviceSpec & { readonly id: string };
  readonly previews: boolean;
  readonly embeddingCacheBytes: number;
  /** See LoadCommand. */
  readonly budgetBytes?: number;
  /** The operator's options of onnxruntime; see LoadCommand. */
  readonly runtime?: RuntimeOptions;
  readonly epLibraries?: Readonly<Record<string, string>>;
  /** See LoadCommand. */
  readonly placement?: boolean;
  /** How long work for a cancelled job may go on before the runner is killed: see RunnerCancels. */
  readonly cancelGraceMs: number;
  readonly log: RunnerLog;
  /** Stages of the load, as they begin. */
  readonly onStage?: (stage: string) => void;
  /** The environment that the child's is picked from (see runner-env.ts). Default: process.env. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly schedule?: Schedule;
  /** Path of util-linux' setpriv; null = there is none: the runner watches its parent from a thread. Default: looked up in PATH. */
  readonly setpriv?: string | null;
  /** Entry file of the child. Default: runner/main beside this folder. For tests of broken children. */
  readonly entry?: string;
}

/**
 *   starting -- ready --> ready -- runBatch --> busy
 *      |                   | ^--- batch-done ---' |
 *      |                   '------ stop ----------+--> draining
 *      '---------- end of the process, from anywhere -------> stopped
 */
export type RunnerState = "starting" | "ready" | "busy" | "draining" | "stopped";

/**
 * Why the process ended.
 *   crash          signal, exit code, or exit 0 without being asked
 *   fatal          it said so itself: the load failed, a ping failed
 *   load-timeout   killed: the load missed its deadline
 *   stage-timeout  killed: a stage of a batch or a ping missed its deadline
 *   protocol       killed: it sent what is no message of ours, or is of another version
 *   cancel         killed: a cancelled job went on beyond the grace
 *   killed         killed by `kill`
 *   stopped        `stop`, whether it went by itself or not
 */
export type RunnerExitReason = "crash" | "fatal" | "load-timeout" | "stage-timeout" | "protocol" | "cancel" | "killed" | "stopped";

export interface RunnerExit {
  readonly reason: RunnerExitReason;
  /** True when the runner is to blame (the scheduler's `crashed`): all but cancel, killed and stopped. */
  readonly crashed: boolean;
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** With the black box: what jobs that were inside get. */
  readonly error: ErrorData;
}

/**
 * How one job of a batch ended. `unfinished`: the process ended first; `error` is what it died of. Whether that counts against the job
 * says `exit.crashed` of the batch's end: after a kill for another job's cancel, or by the daemon, it does not.
 */
export type JobEnd =
  | { readonly kind: "done"; readonly message: JobDoneMessage }
  | { readonly kind: "failed"; readonly error: ErrorData }
  | { readonly kind: "unfinished"; readonly error: ErrorData };

/** What `onEvent` gets while a batch runs. `stage` is the batch's as a whole. */
export type RunnerEvent = Extract<RunnerMessage, { type: "stage" | "progress" | "preview" }>;

export interface BatchOptions {
  readonly batch: string;
  readonly jobs: readonly RunnerJob[];
  /** Must not throw. */
  readonly onEvent?: (event: RunnerEvent) => void;
  /**
   * Called once per job as soon as the runner reports its end, while other jobs of the batch may go on. For a job that is done the
   * runner gets its ack when the promise settles. Must not reject.
   */
  readonly onJobEnd?: (id: string, end: JobEnd) => Promise<void> | void;
}

export interface BatchEnd {
  /** One outcome per job of the batch, by id. */
  readonly jobs: ReadonlyMap<string, JobEnd>;
  /** False = stop this runner (always false when it has ended). */
  readonly reusable: boolean;
  /** Set when the process ended during the batch. */
  readonly exit: RunnerExit | null;
  readonly rssBytes: number;
  /** What the device last reported as used by the process; null where it cannot be read. */
  readonly deviceBytes: number | null;
}
