import { backoffDelayMs, type BackoffPolicy } from "../lib/backoff.ts";
import { ERROR_TABLE, type ErrorData } from "../protocol/error.ts";

/** Workers that may pass a job on before it fails. */
export const MAX_PASS_ON = 3;
/** Claims on which a job may crash a runner before it is taken for the cause. */
export const MAX_CRASH_CLAIMS = 2;

/** Exponential with full jitter: anything up to the full delay (AWS Architecture Blog, "Exponential Backoff And Jitter"). */
export const DEFAULT_BACKOFF: BackoffPolicy = Object.freeze({ firstMs: 1_000, maxMs: 60_000, factor: 2, jitter: 1 });

/** What is known when the run of one job has ended. */
export interface ClaimEnd {
  /** Null when the job has its result, stored and checked. */
  readonly error: ErrorData | null;
  /** Tries that ended in a failure before this one (BullMQ's attemptsMade). */
  readonly attemptsMade: number;
  readonly maxAttempts: number;
  /** Claims on which the job crashed a runner, this one included when `countsAsCrash` says so. */
  readonly crashClaims: number;
  /** Workers that have passed the job on so far, this one not included. */
  readonly passedOn: number;
  /** Another live worker serves the model and has not passed this job on. */
  readonly otherLiveWorkers: boolean;
  /** The job ran by itself, not as one of a batch. */
  readonly wasAlone: boolean;
  /** This run was the one after the eviction of others for an out-of-memory error. */
  readonly afterEviction: boolean;
  /** The device's health says that the device, not the job, is to blame for crashes. */
  readonly deviceBlamed: boolean;
  /** The request record has a cancel mark. */
  readonly cancelled: boolean;
  /** The run was cut short by this worker itself (shutdown, preemption), not by its own failure. */
  readonly preempted: boolean;
}

export type JobOutcome =
  | { readonly kind: "complete" }
  | { readonly kind: "cancelled" }
  | { readonly kind: "fail"; readonly error: ErrorData }
  /** Back to its queue, to be claimable after the delay; spends an attempt. */
  | { readonly kind: "retry"; readonly delayMs: number; readonly error: ErrorData }
  /** Under the same claim, at once, by itself, on a fresh runner; `evictOthers` first. Spends nothing. */
  | { readonly kind: "rerun-alone"; readonly evictOthers: boolean }
  /** Back to its queue for another worker; this one remembers not to take it while another lives. Spends no attempt. */
  | { readonly kind: "pass-on"; readonly delayMs: number; readonly error: ErrorData }
  /** Back to the front of its queue at once. Spends no attempt. */
  | { readonly kind: "hand-back" }
  /** The claim is no longer ours: nothing may be changed, the spool folder is dropped. */
  | { readonly kind: "abandon" };

export interface OutcomeOptions {
  /** 0 <= random() < 1 */
  readonly random: () => number;
  readonly backoff?: BackoffPolicy;
}

/** Whether this end is one more claim on which the job crashed a runner. The count is kept before the outcome is decided. */
export function countsAsCrash(end: Pick<ClaimEnd, "error" | "wasAlone" | "deviceBlamed" | "cancelled" | "preempted">): boolean {
  return end.error?.code === "RUNNER_CRASHED" && end.wasAlone && !end.deviceBlamed && !end.cancelled && !end.preempted;
}

/**
 * How one claim ends, first rule that applies:
 *  1. a lost lock: nothing can be changed any more;
 *  2. a cancelled job is cancelled, also when it has a result;
 *  3. a result completes it;
 *  4. cut short by this worker: handed back;
 *  5. a crash or an out-of-memory error within a batch says nothing about its members: each reruns alone;
 *  6. out of memory alone: once more after evicting everything else, then it does not fit here;
 *  7. a crash that is the device's fault is passed on, else two claims with crashes make it a poison job;
 *  8. otherwise the error table's policy: fail, pass on, or retry with backoff while attempts remain.
 */
export function decideOutcome(end: ClaimEnd, options: OutcomeOptions): JobOutcome {
  const { error } = end;
  if (error?.code === "LOCK_LOST") return { kind: "abandon" };
  if (end.cancelled || error?.code === "CANCELLED") return { kind: "cancelled" };
  if (error === null) return { kind: "complete" };
  if (end.preempted) return { kind: "hand-back" };
  if (error.code === "OUT_OF_MEMORY") return outOfMemory(end, error, options);
  if (error.code === "RUNNER_CRASHED") return crashed(end, error, options);
  return byTable(end, error, options);
}

function outOfMemory(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): JobOutcome {
  if (!end.wasAlone || !end.afterEviction) return { kind: "rerun-alone", evictOthers: true };
  const message = `it ran out of memory alone on the device, after everything else was evicted: ${error.message}`;
  return byTable(end, { ...error, code: "DOES_NOT_FIT", message }, options);
}

function crashed(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): JobOutcome {
  if (!end.wasAlone) return { kind: "rerun-alone", evictOthers: false };
  if (end.deviceBlamed) return mayPassOn(end) ? passOn(end, error, options) : byTable(end, error, options);
  if (end.crashClaims < MAX_CRASH_CLAIMS) return byTable(end, error, options);
  const message = `it crashed the inference process on ${end.crashClaims} claims; the last time: ${error.message}`;
  return { kind: "fail", error: { ...error, code: "POISON_JOB", message } };
}

function byTable(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): JobOutcome {
  switch (ERROR_TABLE[error.code].retry) {
    case "never":
      return { kind: "fail", error };
    case "elsewhere":
      return mayPassOn(end) ? passOn(end, error, options) : { kind: "fail", error };
    case "backoff":
      if (end.attemptsMade + 1 >= end.maxAttempts) return { kind: "fail", error };
      return { kind: "retry", delayMs: backoffMs(end.attemptsMade, options), error };
  }
}

function mayPassOn(end: ClaimEnd): boolean {
  return end.otherLiveWorkers && end.passedOn < MAX_PASS_ON;
}

function passOn(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): JobOutcome {
  return { kind: "pass-on", delayMs: backoffMs(end.passedOn, options), error };
}

function backoffMs(n: number, { random, backoff = DEFAULT_BACKOFF }: OutcomeOptions): number {
  return backoffDelayMs(backoff, n + 1, random);
}
