import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "./redis-script.ts";
import type { CrashLedger } from "./state-types.ts";

/** KEYS: set. ARGV: member, ttl ms. Returns how many members there are now. */
const ADD = new RedisScript(`
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('SCARD', KEYS[1])`);

export function openCrashLedger(options: { readonly redis: Redis; readonly keys: Keys; readonly ttlMs: number }): CrashLedger {
  const { redis, keys, ttlMs } = options;
  const add = async (what: string, key: string, member: string | number): Promise<number> =>
    Number(await onRedis(what, () => ADD.run(redis, [key], [member, ttlMs])));
  return {
    recordCrash: (id, claim) => add(`recording a crash of job ${id}`, keys.crash(id), claim),
    recordPassOn: (id, worker) => add(`recording that job ${id} is passed on`, keys.passed(id), worker),
    passedOnBy: async (id) => new Set(await onRedis(`reading who passed on job ${id}`, () => redis.smembers(keys.passed(id)))),
  };
}
