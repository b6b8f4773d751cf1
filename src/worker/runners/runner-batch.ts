import { AppError, isErrorCode, toErrorData, type ErrorData } from "../../protocol/error.ts";
import type { RunnerMessage } from "../../protocol/ipc.ts";
import type { BatchEnd, BatchOptions, CancelOptions, JobOutcome, RunnerExit } from "./runner-types.ts";

type JobEndMessage = Extract<RunnerMessage, { type: "job-done" | "job-failed" }>;

/** The books of one batch: which jobs ended how, who was cancelled, which ends the daemon is still recording. */
export class RunnerBatch {
  readonly options: BatchOptions;
  readonly end: Promise<BatchEnd>;
  readonly #resolve: (end: BatchEnd) => void;
  readonly #outcomes = new Map<string, JobOutcome>();
  readonly #cancelled = new Map<string, ErrorData>();
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

  markCancelled(id: string, options: CancelOptions): void {
    this.#cancelled.set(id, toErrorData(options.error ?? new AppError("CANCELLED", `job ${id} was cancelled while it ran`)));
  }

  /** Takes a job's end; `onRecorded` follows once the daemon has it. False when the job is none of ours or had ended. */
  report(message: JobEndMessage, onRecorded: () => void): boolean {
    if (!this.isOpen(message.id)) return false;
    const outcome = this.#outcomeOf(message);
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
      if (this.#outcomes.has(id)) continue;
      const cancelled = this.#cancelled.get(id);
      const outcome: JobOutcome = cancelled === undefined ? { kind: "unfinished", error } : { kind: "failed", error: cancelled };
      this.#outcomes.set(id, outcome);
    }
    void Promise.all(this.#recording).then(() => this.#resolve({ jobs: this.#outcomes, ...state }));
  }

  #outcomeOf(message: JobEndMessage): JobOutcome {
    if (message.type === "job-done") return { kind: "done", message };
    const cancelled = this.#cancelled.get(message.id);
    if (message.error.code === "CANCELLED" && cancelled !== undefined) return { kind: "failed", error: cancelled };
    const code = isErrorCode(message.error.code) ? message.error.code : "INTERNAL";
    return { kind: "failed", error: { ...message.error, code } };
  }

  async #record(id: string, outcome: JobOutcome): Promise<void> {
    try {
      await this.options.onJobEnd?.(id, outcome);
    } catch (thrown) {
      this.#outcomes.set(id, { kind: "failed", error: toErrorData(thrown) });
    }
  }
}
