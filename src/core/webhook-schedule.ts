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

export type DeliveryStep =
  | { readonly kind: "delivered" }
  | { readonly kind: "retry"; readonly waitMs: number }
  | { readonly kind: "failed" };

/** What follows attempt number `attempt` (from 1) that was answered with `status`; null = no answer. */
export function planNextAttempt(attempt: number, status: number | null): DeliveryStep {
  if (status !== null && status >= 200 && status < 300) return { kind: "delivered" };
  const waitMs = WEBHOOK_WAITS_MS[attempt];
  return status === GONE || waitMs === undefined ? { kind: "failed" } : { kind: "retry", waitMs };
}
