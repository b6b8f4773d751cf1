import { AppError, isErrorCode, toErrorData } from "../../protocol/error.ts";
import type { RunnerMessage } from "../../protocol/ipc.ts";
import type { BatchEnd, BatchOptions, JobEnd, RunnerExit } from "./runner-types.ts";

type JobEndMessage = Extract<RunnerMessage, { type: "job-done" | "job-failed" }>;

/** The books of one batch: which jobs ended how, and which ends the daemon is still recording. */
export class RunnerBatch {
  readonly options: BatchOptions;
  readonly end: Promise<BatchEnd>;
  readonly #resolve: (end: BatchEnd) => void;
  readonly #outcomes = new Map<string, JobEnd>();
  readonly #recording = new Set<Promise<void>>();

  constructor(options: BatchOptions) {
    this.options = options;
    const { promise, resolve } = Promise.withResolvers<BatchEnd>();
    this.end = promise;
    this.#resolve = resolve;
  }

  isOpen(id: string): boolean {
    return !this.#outcomes.has(id) && this.options.jobs.some((job) => job.id === id);
  }

  /** True when the runner has reported an end for every job. */
  get allReported(): boolean {
    return this.#outcomes.size === this.options.jobs.length;
  }

  /** True while the daemon records ends: the runner waits for us, not we for it. */
  get recording(): boolean {
    return this.#recording.size > 0;
  }

  /** Takes a job's end; `onRecorded` follows once the daemon has it. False when the job is none of ours or had ended. */
  report(message: JobEndMessage, onRecorded: () => void): boolean {
    if (!this.isOpen(message.id)) return false;
    const outcome = endOf(message);
    this.#outcomes.set(message.id, outcome);
    const recorded = this.#record(message.id, outcome).finally(() => {
      this.#recording.delete(recorded);
      onRecorded();
    });
    this.#recording.add(recorded);
    return true;
  }

  /** Ends the batch; jobs without an end get one from how the process ended. Waits for what is being recorded. */
  finish(state: {
    readonly reusable: boolean;
    readonly exit: RunnerExit | null;
    readonly rssBytes: number;
    readonly deviceBytes: number | null;
  }): void {
    const error =
      state.exit?.error ?? toErrorData(new AppError("RUNNER_CRASHED", "the runner ended the batch without this job; this is a bug"));
    for (const { id } of this.options.jobs) {
      if (!this.#outcomes.has(id)) this.#outcomes.set(id, { kind: "unfinished", error });
    }
    void Promise.all(this.#recording).then(() => this.#resolve({ jobs: this.#outcomes, ...state }));
  }

  async #record(id: string, end: JobEnd): Promise<void> {
    await this.options.onJobEnd?.(id, end);
  }
}

function endOf(message: JobEndMessage): JobEnd {
  if (message.type === "job-done") return { kind: "done", message };
  const code = isErrorCode(message.error.code) ? message.error.code : "INTERNAL";
  return { kind: "failed", error: { ...message.error, code } };
}
