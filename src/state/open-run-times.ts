import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";

/** How long a job of a model takes from its start to its end, learned from those that ended: for estimates. */
export interface RunTimes {
  /** Weighs newer jobs more: each counts a fifth. */
  learn(model: string, ms: number): Promise<void>;
  /** Milliseconds; null for a model of which no job has ended yet. */
  of(model: string): Promise<number | null>;
  /** The same of all models that it is known of, in one command. */
  all(): Promise<ReadonlyMap<string, number>>;
}

const SHARE = 0.2;

/** KEYS: hash. ARGV: model, milliseconds, share of the new value. */
const LEARN = new RedisScript(`
local old = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[2]) or tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], tostring(old + (tonumber(ARGV[2]) - old) * tonumber(ARGV[3])))
return 1`);

export function openRunTimes(options: { readonly redis: Redis; readonly keys: Keys }): RunTimes {
  const { redis, keys } = options;
  return {
    learn: async (model, ms) => {
      await onRedis("learning a run time", () => LEARN.run(redis, [keys.runTimes], [model, Math.round(ms), SHARE]));
    },
    of: async (model) => {
      const found = await onRedis("reading a run time", () => redis.hget(keys.runTimes, model));
      return milliseconds(found);
    },
    all: async () => {
      const found = await onRedis("reading the run times", () => redis.hgetall(keys.runTimes));
      return new Map(
        Object.entries(found).flatMap(([model, text]) => {
          const ms = milliseconds(text);
          return ms === null ? [] : [[model, ms] as const];
        }),
      );
    },
  };
}

function milliseconds(text: string | null): number | null {
  const ms = Number(text ?? NaN);
  return Number.isFinite(ms) ? ms : null;
}
