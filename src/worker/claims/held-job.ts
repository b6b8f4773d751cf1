import { AppError } from "../../protocol/error.ts";
import type { JobData } from "../../protocol/job.ts";
import type { Claim } from "../../queue/queue-types.ts";
import type { Logger } from "../../telemetry/logger.ts";

/**
 * A job whose lock this daemon holds, from its claim to its end.
 *
 *   claimed -> prepared -> running -> storing -> (ended)
 *                 ^           |
 *                 '- backlog <'      rerun alone, after a crash or out of memory within a batch
 *
 * Whatever ends it early (cancel, time limit, lost lock, shutdown) aborts `signal` with the reason; the first reason stays. While a
 * runner works on it, `onAbort` passes the reason on to that runner.
 */
export class HeldJob {
  readonly claim: Claim;
  readonly data: JobData;
  readonly log: Logger;
  readonly claimedAt: number;
  /** Unix milliseconds of the job's first dispatch over all its claims, null before. */
  startedAt: number | null;
  /** It runs by itself because a batch it was in crashed or ran out of memory. */
  mustRunAlone = false;
  /** It reruns after everything else on the device was evicted. */
  afterEviction = false;
  /** Milliseconds that its batch waited for the model to load. */
  loadMs = 0;
  #onAbort: ((reason: AppError) => void) | null = null;
  readonly #controller = new AbortController();

  constructor(options: {
    readonly claim: Claim;
    readonly data: JobData;
    readonly log: Logger;
    readonly claimedAt: number;
    readonly startedAt: number | null;
  }) {
    this.claim = options.claim;
    this.data = options.data;
    this.log = options.log;
    this.claimedAt = options.claimedAt;
    this.startedAt = options.startedAt;
  }

  get id(): string {
    return this.data.id;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Why it must end, null while it may go on. */
  get abortReason(): AppError | null {
    return this.signal.aborted ? (this.signal.reason as AppError) : null;
  }

  /** Whether the lock is known to be another's: then nothing may be changed any more. */
  get lockLost(): boolean {
    return this.abortReason?.code === "LOCK_LOST";
  }

  abort(reason: AppError): void {
    if (this.signal.aborted) return;
    this.#controller.abort(reason);
    this.#onAbort?.(reason);
  }

  /** One listener at a time, the part that works on the job now; called at once when the job is aborted already. */
  whenAborted(listener: ((reason: AppError) => void) | null): void {
    this.#onAbort = listener;
    const reason = this.abortReason;
    if (reason !== null) listener?.(reason);
  }
}

/** The reason of jobs that are given back because this daemon ends or its device is taken out of service. */
export function preempted(why: string): AppError {
  return new AppError("CAPACITY_UNAVAILABLE", why);
}
