import { backoffDelayMs, type BackoffPolicy } from "../lib/backoff.ts";
import { ERROR_TABLE, type ErrorCode, type ErrorData } from "../protocol/error.ts";

/** Workers that may pass a job on before it fails. */
export const MAX_PASS_ON = 3;
/** Claims on which a job may bring down a runner before it is taken for the cause. */
export const MAX_FAULT_CLAIMS = 2;
/** The same for claims on which the device was blamed: however bad the device, a job does not come back for ever. */
export const MAX_BLAMED_FAULT_CLAIMS = 5;

/** Claims, hand-backs and all, after which a job no longer comes back for free because of an object store that does not answer. */
export const MAX_POSTPONED_CLAIMS = 200;

/** Longest wait that a server of a client's may ask for; one that wants more gets no further try of ours. */
export const MAX_RETRY_AFTER_MS = 300_000;

/** Exponential with full jitter: anything up to the full delay (AWS Architecture Blog, "Exponential Backoff And Jitter"). */
export const DEFAULT_BACKOFF: BackoffPolicy = Object.freeze({ firstMs: 1_000, maxMs: 60_000, factor: 2, jitter: 1 });

/** Ends of a run that may be the device's fault as well as the job's: counted against both. */
const DEVICE_FAULTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "RUNNER_CRASHED",
  "STAGE_TIMEOUT",
  "DEVICE_FAILED",
  "DEVICE_UNAVAILABLE",
]);

export function isDeviceFault(code: ErrorCode): boolean {
  return DEVICE_FAULTS.has(code);
}

/** How one run on a runner ended, without a result. */
export interface RunFailure {
  readonly error: ErrorData;
  /** The job ran by itself, not as one of a batch. */
  readonly alone: boolean;
  /** This run was the one after the eviction of others for an out-of-memory error. */
  readonly afterEviction: boolean;
}

/**
 * Whether the same claim runs again, by itself and on a fresh runner, which spends nothing:
 *  - what went wrong within a batch, and is not plainly a client's fault, says nothing about any one member: each runs again alone;
 *  - out of memory alone: once more after everything else on the device was evicted.
 * A full disk is full for each of them: none runs again before there is room.
 */
export function decideRerun({ error, alone, afterEviction }: RunFailure): { readonly evictOthers: boolean } | null {
  if (error.code === "OUT_OF_MEMORY") return alone && afterEviction ? null : { evictOthers: true };
  if (error.code === "SPOOL_FULL") return null;
  const { blame } = ERROR_TABLE[error.code];
  return !alone && (blame === "machine" || blame === "model") ? { evictOthers: false } : null;
}

/** Claims of one job that ended in a device fault, by whom that was blamed on. */
export interface FaultCount {
  readonly onJob: number;
  readonly onDevice: number;
}

export const NO_FAULTS: FaultCount = Object.freeze({ onJob: 0, onDevice: 0 });

/** What is known when a claim ends without a result. */
export interface ClaimEnd {
  readonly error: ErrorData;
  /** Tries that ended in a failure before this one (BullMQ's attemptsMade). */
  readonly attemptsMade: number;
  readonly maxAttempts: number;
  /** Claims of the job before this one, hand-backs included. */
  readonly earlierClaims: number;
  /** The device's health says that the device, not the job, is to blame for this end. */
  readonly deviceBlamed: boolean;
  /** Claims on which the job ran into a device fault, this one included. */
  readonly faults: FaultCount;
  /** Workers that have passed the job on so far, this one not included. */
  readonly passedOn: number;
  /** Another live worker serves the model and has not passed this job on. */
  readonly otherLiveWorkers: boolean;
}

/** Whether the outcome depends on who else could take the job: then `passedOn` and `otherLiveWorkers` must be known. */
export function mayConcernOthers({ error, deviceBlamed }: Pick<ClaimEnd, "error" | "deviceBlamed">): boolean {
  if (error.code === "CAPACITY_UNAVAILABLE") return false;
  return deviceBlamed || error.code === "OUT_OF_MEMORY" || ERROR_TABLE[error.code].retry === "elsewhere";
}

export type ClaimOutcome =
  | { readonly kind: "cancelled" }
  | { readonly kind: "fail"; readonly error: ErrorData }
  /** Back to its queue, to be claimable after the delay; spends an attempt. */
  | { readonly kind: "retry"; readonly delayMs: number; readonly error: ErrorData }
  /** Back to its queue for another worker; this one remembers not to take it while another lives. Spends no attempt. */
  | { readonly kind: "pass-on"; readonly delayMs: number; readonly error: ErrorData }
  /** Back to its queue, to be claimable by anybody after the delay. Spends no attempt. */
  | { readonly kind: "postpone"; readonly delayMs: number; readonly error: ErrorData }
  /** Back to the front of its queue at once. Spends no attempt. */
  | { readonly kind: "hand-back"; readonly error: ErrorData }
  /** The claim is no longer ours: nothing is changed; whole outputs stay in the spool, should the job come back here. */
  | { readonly kind: "abandon" };

export interface OutcomeOptions {
  /** 0 <= random() < 1 */
  readonly random: () => number;
  readonly backoff?: BackoffPolicy;
}

/**
 * How a claim without a result ends, first rule that applies:
 *  1. a lost lock: nothing can be changed any more;
 *  2. a cancelled job is cancelled;
 *  3. what this worker cut short (shutdown, a runner that could not be had) and a full disk are not the job's: handed back;
 *  4. an object store that is away costs no attempt: the job comes back later;
 *  5. out of memory, which is here only after everything else was evicted: it does not fit;
 *  6. a device fault is the device's where others suffered, too: another worker's job, or a later one's of ours. It is the job's where the
 *     device works for others: once more on a fresh runner, then it fails;
 *  7. otherwise the error table's policy: fail, pass on, or retry with backoff while attempts remain.
 */
export function decideOutcome(end: ClaimEnd, options: OutcomeOptions): ClaimOutcome {
  const { error } = end;
  const special = SPECIAL[error.code];
  if (special !== undefined) return special(end, options);
  return isDeviceFault(error.code) ? deviceFault(end, options) : byTable(end, error, options);
}

type Rule = (end: ClaimEnd, options: OutcomeOptions) => ClaimOutcome;

const SPECIAL: Readonly<Partial<Record<ErrorCode, Rule>>> = {
  LOCK_LOST: () => ({ kind: "abandon" }),
  CANCELLED: () => ({ kind: "cancelled" }),
  CAPACITY_UNAVAILABLE: ({ error }) => ({ kind: "hand-back", error }),
  SPOOL_FULL: ({ error }) => ({ kind: "hand-back", error }),
  STORAGE_UNAVAILABLE: (end, options) =>
    end.earlierClaims < MAX_POSTPONED_CLAIMS ? postpone(end, end.error, options) : byTable(end, end.error, options),
  OUT_OF_MEMORY: (end, options) => {
    const message = `it ran out of memory alone on the device, after everything else was evicted: ${end.error.message}`;
    return byTable(end, { ...end.error, code: "DOES_NOT_FIT", message }, options);
  },
};

function deviceFault(end: ClaimEnd, options: OutcomeOptions): ClaimOutcome {
  const { error } = end;
  const { onJob, onDevice } = end.faults;
  if (onJob >= MAX_FAULT_CLAIMS || onDevice >= MAX_BLAMED_FAULT_CLAIMS) return { kind: "fail", error: poison(end, error) };
  if (!end.deviceBlamed) return retry(end, error, options);
  return mayPassOn(end) ? passOn(end, error, options) : postpone(end, error, options);
}

/** A stage without a sign of life keeps its name; what took the process down is the job's doing by now. */
function poison({ faults }: ClaimEnd, error: ErrorData): ErrorData {
  const claims = faults.onJob + faults.onDevice;
  if (error.code === "STAGE_TIMEOUT") return { ...error, message: `on ${claims} claims; the last time: ${error.message}` };
  const message = `it crashed the inference process on ${claims} claims; the last time: ${error.message}`;
  return { ...error, code: "POISON_JOB", message };
}

function byTable(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): ClaimOutcome {
  switch (ERROR_TABLE[error.code].retry) {
    case "never":
      return { kind: "fail", error };
    case "elsewhere":
      return mayPassOn(end) ? passOn(end, error, options) : { kind: "fail", error };
    case "backoff":
      return retry(end, error, options);
  }
}

function retry(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): ClaimOutcome {
  const { retryAfterMs = 0 } = error;
  if (end.attemptsMade + 1 >= end.maxAttempts || retryAfterMs > MAX_RETRY_AFTER_MS) return { kind: "fail", error };
  return { kind: "retry", delayMs: Math.max(retryAfterMs, backoffMs(end.attemptsMade, options)), error };
}

function mayPassOn(end: ClaimEnd): boolean {
  return end.otherLiveWorkers && end.passedOn < MAX_PASS_ON;
}

function passOn(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): ClaimOutcome {
  return { kind: "pass-on", delayMs: backoffMs(end.passedOn, options), error };
}

function postpone(end: ClaimEnd, error: ErrorData, options: OutcomeOptions): ClaimOutcome {
  return { kind: "postpone", delayMs: backoffMs(end.earlierClaims, options), error };
}

function backoffMs(n: number, { random, backoff = DEFAULT_BACKOFF }: OutcomeOptions): number {
  return backoffDelayMs(backoff, n + 1, random);
}
