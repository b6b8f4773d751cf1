const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Waits before attempts 1 to 10, milliseconds: 22 h 48 m in all. They are part of the API that clients know. */
export const WEBHOOK_WAITS_MS: readonly number[] = [
  0,
  MINUTE_MS,
  2 * MINUTE_MS,
  5 * MINUTE_MS,
  10 * MINUTE_MS,
  30 * MINUTE_MS,
  HOUR_MS,
  3 * HOUR_MS,
  6 * HOUR_MS,
  12 * HOUR_MS,
];

/** The receiver says that it is gone for good. */
export const GONE = 410;

/** Answers whose `Retry-After` says when the receiver can be asked again: too many requests, not available. */
const BUSY: ReadonlySet<number | null> = new Set([429, 503]);

export type DeliveryStep =
  | { readonly kind: "delivered" }
  /** `attempt`: the number of the one that is made after the wait. */
  | { readonly kind: "retry"; readonly waitMs: number; readonly attempt: number }
  | { readonly kind: "failed" };

export interface AttemptAnswer {
  /** Null: no answer. */
  readonly status: number | null;
  /** What its `Retry-After` asks for, milliseconds. */
  readonly retryAfterMs: number | null;
}

/**
 * What follows attempt number `attempt` (from 1). Attempts stay at the times of the schedule: one that comes before a busy receiver's
 * `Retry-After` is over is left out, but never the last.
 */
export function planNextAttempt(attempt: number, { status, retryAfterMs }: AttemptAnswer): DeliveryStep {
  if (status !== null && status >= 200 && status < 300) return { kind: "delivered" };
  const first = WEBHOOK_WAITS_MS[attempt];
  if (status === GONE || first === undefined) return { kind: "failed" };
  const asked = BUSY.has(status) ? (retryAfterMs ?? 0) : 0;
  let waitMs = first;
  let next = attempt + 1;
  for (let more = WEBHOOK_WAITS_MS[next]; more !== undefined && waitMs < asked; more = WEBHOOK_WAITS_MS[next]) {
    waitMs += more;
    next += 1;
  }
  return { kind: "retry", waitMs, attempt: next };
}
