import { backoffDelayMs, type BackoffPolicy } from "../lib/backoff.ts";
import { Bell } from "../lib/bell.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import type { ObjectStore } from "./object-store.ts";

export interface StoreCheck {
  readonly ok: boolean;
  /** What is wrong and why, or what proves that it works. */
  readonly detail: string;
  /** Somebody has to change something: credentials, permissions, the bucket. False for an outage, which passes. */
  readonly lasting: boolean;
}

/**
 * Whether a store takes writes, proven by a small object that is written, read, listed and deleted. A look costs five requests, so nobody's
 * question makes one: answers are what the last one found.
 */
export interface StoreHealth {
  readonly last: StoreCheck;
  /**
   * For the start of a program that runs on: one look. An outage is none: the program starts, and `watch` says when it is over.
   * @throws AppError STORAGE_REJECTED for what an operator has to change; CONFIG_INVALID when this machine has no temporary folder to try it from
   */
  admit(signal: AbortSignal): Promise<void>;
  /** A transfer failed: a look is due now. */
  doubt(): void;
  /** A transfer went up: as good as a look. */
  proven(): void;
  /** Looks again and again until the signal aborts, and tells what it finds at first and each change of whether it works. */
  watch(onChange: (check: StoreCheck) => void, signal: AbortSignal): Promise<void>;
}

export interface StoreHealthOptions {
  readonly store: Pick<ObjectStore, "check" | "label">;
  /** Pause between looks while the store works and nothing was written. */
  readonly everyMs?: number;
  /** Pauses while it does not. */
  readonly backoff?: BackoffPolicy;
  /** Doubts within this after a look that found all well make no other. */
  readonly doubtMs?: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

/** 200 idle hosts make 1,200 looks an hour together, of five requests each. */
export const LOOK_EVERY_MS = 600_000;
export const LOOK_BACKOFF: BackoffPolicy = { firstMs: 2_000, factor: 2, maxMs: 60_000, jitter: 0.3 };
const DOUBT_MS = 10_000;
/** The S3 client itself waits for a connection for 5 s and tries three times. */
const LOOK_TIMEOUT_MS = 20_000;
/** A refusal comes at once, and what an earlier daemon left in the spool should not wait for an outage to show itself. */
const ADMIT_TIMEOUT_MS = 5_000;

export function openStoreHealth(options: StoreHealthOptions): StoreHealth {
  const { store, everyMs = LOOK_EVERY_MS, backoff = LOOK_BACKOFF, doubtMs = DOUBT_MS, now = () => performance.now() } = options;
  const bell = new Bell();
  let last: StoreCheck = { ok: false, lasting: false, detail: `${store.label}: not tried yet` };
  let provenAt = Number.NEGATIVE_INFINITY;
  let failures = 0;
  let isDoubted = false;

  const found = (check: StoreCheck): void => {
    last = check;
    failures = check.ok ? 0 : failures + 1;
    if (check.ok) provenAt = now();
  };
  const look = async (signal: AbortSignal, timeoutMs: number = LOOK_TIMEOUT_MS): Promise<AppError | null> => {
    const startedAt = now();
    isDoubted = false;
    try {
      await store.check({ signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) });
      found({ ok: true, lasting: false, detail: `${store.label}: a test object took ${Math.ceil(now() - startedAt)} ms` });
      return null;
    } catch (thrown) {
      if (signal.aborted) return null;
      const error = explained(store.label, thrown, timeoutMs);
      found({ ok: false, lasting: error.code !== "STORAGE_UNAVAILABLE", detail: error.message });
      return error;
    }
  };
  const pause = (): number => (last.ok ? Math.max(0, provenAt + everyMs - now()) : backoffDelayMs(backoff, failures));
  return {
    get last() {
      return last;
    },
    admit: async (signal) => {
      const error = await look(signal, ADMIT_TIMEOUT_MS);
      if (error !== null && last.lasting) throw error;
    },
    doubt: () => {
      if (last.ok && now() - provenAt < doubtMs) return;
      isDoubted = true;
      if (last.ok) bell.ring();
    },
    proven: () => {
      const wasOk = last.ok;
      found({ ok: true, lasting: false, detail: `${store.label}: an upload went through` });
      if (!wasOk) bell.ring();
    },
    watch: async (onChange, signal) => {
      let told: boolean | null = null;
      while (!signal.aborted) {
        if (failures === 0 && !last.ok) await look(signal);
        if (last.ok !== told && !signal.aborted) onChange(last);
        told = last.ok;
        await bell.wait(pause(), signal).catch(() => undefined);
        if (signal.aborted) return;
        // Rung for an upload that went through after all, or due, and something went up meanwhile.
        if (last.ok && !isDoubted && now() - provenAt < everyMs) continue;
        await look(signal);
      }
    },
  };
}

function explained(label: string, thrown: unknown, timeoutMs: number): AppError {
  if (thrown instanceof DOMException && thrown.name === "TimeoutError")
    return new AppError("STORAGE_UNAVAILABLE", `${label}: no answer within ${timeoutMs / 1_000} s; look at its server and the network`);
  const error = asAppError(thrown);
  if (error.code === "CONFIG_INVALID") return error;
  const code = error.code === "STORAGE_REJECTED" ? "STORAGE_REJECTED" : "STORAGE_UNAVAILABLE";
  const advice =
    code === "STORAGE_REJECTED" ? "give this program the right to write, read, list and delete there (DRYAPI_STORE)" : "bring it back";
  return new AppError(code, `${label} takes no writes: ${error.message}; ${advice}`, { cause: thrown });
}
