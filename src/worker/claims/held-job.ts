import { steadyNow } from "../../lib/steady-clock.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import { JOB_VERSION, parseJobData, type JobData } from "../../protocol/job.ts";
import type { Claim } from "../../queue/queue-types.ts";
import type { Logger } from "../../telemetry/logger.ts";

/** setTimeout takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A job whose lock this daemon holds, from `ClaimKeeper.hold` to its disposal. Whatever ends it early (cancel, time limit, lost lock,
 * shutdown) aborts `signal` with the reason, an AppError; the first reason stays.
 */
export class HeldJob implements Disposable {
  readonly claim: Claim;
  readonly data: JobData;
  /** Why `data` could not be read, null when it could. Then `data` only stands in, so that the claim can be ended like any other. */
  readonly damage: AppError | null;
  readonly log: Logger;
  /** Milliseconds of `steadyNow`. */
  readonly heldSince: number = steadyNow();
  readonly #controller = new AbortController();
  readonly #onRelease: (job: HeldJob) => void;
  #clock: NodeJS.Timeout | undefined;
  #released = false;

  constructor(claim: Claim, options: { readonly log: Logger; readonly onRelease: (job: HeldJob) => void }) {
    this.claim = claim;
    this.log = options.log;
    this.#onRelease = options.onRelease;
    const read = readData(claim);
    this.data = read instanceof AppError ? substitute(claim) : read;
    this.damage = read instanceof AppError ? read : null;
  }

  get id(): string {
    return this.claim.id;
  }

  get model(): string {
    return this.claim.queue;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Why it must end, null while it may go on. */
  get abortReason(): AppError | null {
    return this.signal.aborted ? (this.signal.reason as AppError) : null;
  }

  abort(reason: AppError): void {
    this.#controller.abort(reason);
  }

  /** Aborts it with JOB_TIMEOUT when its time limit is over, of which `elapsedMs` have passed since its first dispatch ever. */
  startClock(elapsedMs: number): void {
    clearTimeout(this.#clock);
    // Its start may be recorded so slowly that it has ended by then.
    if (this.#released) return;
    const limitMs = this.data.timeoutMs;
    const text = `job ${this.id} took longer than its time limit of ${limitMs} ms, counted from its first start`;
    const leftMs = Math.min(Math.max(0, limitMs - Math.max(0, elapsedMs)), MAX_TIMER_MS);
    this.#clock = setTimeout(() => this.abort(new AppError("JOB_TIMEOUT", text, { detail: `It is ${limitMs / 1_000} s.` })), leftMs);
  }

  /** Its work is done: what is left (upload, finish) may take as long as an outage lasts. */
  stopClock(): void {
    clearTimeout(this.#clock);
  }

  /** From now on its lock is not renewed. Releasing twice is no error. */
  release(): void {
    this.#released = true;
    this.stopClock();
    this.#onRelease(this);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** The reason of jobs that are given back because of this worker: it shuts down, or has no runner for them. */
export function handedBack(why: string): AppError {
  return new AppError("CAPACITY_UNAVAILABLE", why);
}

function readData(claim: Claim): JobData | AppError {
  try {
    const data = parseJobData(claim.data);
    if (data.id === claim.id && data.model === claim.queue) return data;
    return new AppError("JOB_DAMAGED", `job ${claim.id} of queue ${claim.queue} carries the data of ${data.id} for ${data.model}`);
  } catch (thrown) {
    return asAppError(thrown);
  }
}

/** Damaged data are never trusted: only the claim's own fields are used, and the client's name, so that its end can be told. */
function substitute(claim: Claim): JobData {
  const raw = typeof claim.data === "object" && claim.data !== null ? (claim.data as Readonly<Record<string, unknown>>) : {};
  return {
    v: JOB_VERSION,
    id: claim.id,
    task: "txt2img",
    model: claim.queue,
    client: typeof raw["client"] === "string" ? raw["client"] : "unknown",
    params: {},
    inputs: [],
    timeoutMs: 1,
    submittedAt: claim.addedAt,
  };
}
