import type { Redis } from "ioredis";
import { RedisError, redisFailure, type RedisFailure } from "../core/redis-failure.ts";
import { sleep } from "../lib/backoff.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { asAppError } from "../protocol/error.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";

export interface RedisCheck {
  readonly ok: boolean;
  /** What is wrong, why, and what to do; or how long the test write took. */
  readonly detail: string;
}

/** Whether our programs can work with a Redis: proven by a write of the kind that they make, since reads go on where writes do not. */
export interface RedisHealth {
  /** @throws AppError REDIS_UNAVAILABLE with the cause in plain words */
  prove(): Promise<void>;
  /** As `prove`, as an answer. Looks that overlap share one. */
  check(): Promise<RedisCheck>;
  /** What the last look found, or the admission; null before. */
  readonly last: RedisCheck | null;
  /**
   * For the start of a program that runs on: a cause that passes by itself is waited for, up to the patience. A Redis that is away altogether
   * is none: the program starts without it. @throws AppError REDIS_UNAVAILABLE for what an operator has to change
   */
  admit(options: { readonly signal: AbortSignal; readonly onWait: (check: RedisCheck) => void }): Promise<void>;
  /** Tells each change of cause until the signal aborts. */
  watch(onChange: (check: RedisCheck) => void, signal: AbortSignal): Promise<void>;
}

export interface RedisHealthOptions {
  readonly redis: Redis;
  readonly keys: Keys;
  /** How long a start waits for what passes by itself. */
  readonly patienceMs?: number;
  readonly watchEveryMs?: number;
}

const PROOF_TIMEOUT_MS = 3_000;
const PROOF_TTL_MS = 60_000;
const PATIENCE_MS = 15_000;
const RETRY_MS = 500;
const WATCH_EVERY_MS = 5_000;
const WHAT = "a test write";

/** A script, as nearly all of our writes are. KEYS: probe. ARGV: value, ttl ms. */
const PROVE = new RedisScript(`return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`);

/** `redis` must be fresh: what its connection says from its first try on is remembered. */
export function openRedisHealth({ redis, keys, patienceMs = PATIENCE_MS, watchEveryMs = WATCH_EVERY_MS }: RedisHealthOptions): RedisHealth {
  const trouble = watchTrouble(redis);
  const prove = async (): Promise<void> => {
    try {
      await onRedis(WHAT, () => soon(PROVE.run(redis, [keys.probe], [Date.now(), PROOF_TTL_MS])));
    } catch (thrown) {
      throw explained(redis, trouble(), thrown);
    }
    const found = trouble();
    // ioredis goes on in database 0 when it may not select another.
    if (found?.failure.kind === "wrong-db") throw new RedisError(WHAT, found.failure, found.error);
  };
  let looking: Promise<RedisCheck> | null = null;
  let last: RedisCheck | null = null;
  const look = async (): Promise<RedisCheck> => {
    const startedAt = performance.now();
    try {
      await prove();
      return { ok: true, detail: `a test write took ${Math.ceil(performance.now() - startedAt)} ms` };
    } catch (thrown) {
      return { ok: false, detail: asAppError(thrown).message };
    } finally {
      looking = null;
    }
  };
  const check = async (): Promise<RedisCheck> => (last = await (looking ??= look()));
  return {
    prove,
    check,
    get last() {
      return last;
    },
    admit: async ({ signal, onWait }) => {
      for (const until = performance.now() + patienceMs; !signal.aborted;) {
        try {
          await Promise.race([prove(), untilAborted(signal)]);
          if (signal.aborted) return;
          last = { ok: true, detail: "a test write worked at the start" };
          return;
        } catch (thrown) {
          if (signal.aborted) return;
          const error = asAppError(thrown);
          const failure = redisFailure(error);
          if (failure?.kind === "away" || failure?.kind === "silent") return;
          if (failure?.passing !== true || performance.now() >= until) throw error;
          onWait({ ok: false, detail: error.message });
        }
        await sleep(RETRY_MS, signal).catch(() => undefined);
      }
    },
    watch: async (onChange, signal) => {
      let told: string | null = null;
      while (!signal.aborted) {
        const found = await check();
        const cause = found.ok ? null : found.detail;
        if (cause !== told && !signal.aborted) onChange(found);
        told = cause;
        await sleep(watchEveryMs, signal).catch(() => undefined);
      }
    },
  };
}

interface Trouble {
  readonly failure: RedisFailure;
  readonly error: unknown;
}

/**
 * The last thing that was said of why a connection is not there: commands only learn that it is closed. Forgotten once a later connection
 * is ready; what was said while this very one was set up stays, for it may be ready all the same.
 */
function watchTrouble(redis: Redis): () => Trouble | null {
  let last: (Trouble & { readonly session: number }) | null = null;
  let session = 0;
  redis.on("connect", () => (session += 1));
  redis.on("ready", () => {
    if (last?.session !== session) last = null;
  });
  const note = (error: unknown): void => {
    const failure = redisFailure(error);
    if (failure !== null) last = { failure, error, session };
  };
  redis.on("error", note);
  // An answer to whatever command may make ioredis connect anew; the commands after it only learn that it does.
  const { reconnectOnError } = redis.options;
  redis.options.reconnectOnError = (error) => {
    const answer = reconnectOnError?.(error) ?? false;
    if (answer !== false) note(error);
    return answer;
  };
  return () => last;
}

/** The cause behind "the connection is closed" and "no answer". */
function explained(redis: Redis, trouble: Trouble | null, thrown: unknown): Error {
  const error = asAppError(thrown);
  if (redisFailure(error)?.kind !== "away") return error;
  if (trouble !== null) return new RedisError(WHAT, trouble.failure, trouble.error);
  // Connected and never ready: ioredis waits for a server that says it is loading, and for one that says nothing, and tells neither.
  const waitsFor = redis.status === "connect" ? redisFailure(redis.stream.bytesRead > 0 ? "LOADING" : "SILENT") : null;
  return waitsFor === null ? error : new RedisError(WHAT, waitsFor, error.cause);
}

/** Commands may wait for a connection longer than whoever asks for our health. */
async function soon(answer: Promise<unknown>): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer: Command timed out after ${PROOF_TIMEOUT_MS} ms`)), PROOF_TIMEOUT_MS);
  answer.catch(() => undefined);
  try {
    await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
