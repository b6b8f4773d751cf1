import { setTimeout as wait } from "node:timers/promises";

/** Waits; rejects with `signal.reason` when aborted. Injected so that tests need no time. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

export interface BackoffPolicy {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Growth per attempt. */
  readonly factor: number;
  /** Share of the delay that is random, 0..1: 0.3 gives 70 % to 100 % of it. Keeps a fleet from returning in one wave. */
  readonly jitter: number;
}

/** Delay before try number `attempt` + 1, where `attempt` >= 1 tries have failed. */
export function backoffDelayMs(policy: BackoffPolicy, attempt: number, random: () => number = Math.random): number {
  // The exponent is capped so that the power stays finite for ever.
  const full = Math.min(policy.maxMs, policy.firstMs * policy.factor ** Math.min(attempt - 1, 64));
  return Math.round(full * (1 - policy.jitter * random()));
}

export const sleep: Sleep = async (ms, signal) => {
  signal?.throwIfAborted();
  try {
    await wait(ms, undefined, signal === undefined ? undefined : { signal });
  } catch (thrown) {
    signal?.throwIfAborted();
    throw thrown;
  }
};
