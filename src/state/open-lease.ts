import type { Redis } from "ioredis";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";

/** That one of several processes does something. */
export interface Lease {
  /** Takes the lease or prolongs it; false when another holder has it. @throws AppError REDIS_UNAVAILABLE: it may run out */
  hold(): Promise<boolean>;
  /** Gives it back, so that another need not wait for its end. */
  release(): Promise<void>;
}

/** KEYS: lease. ARGV: holder, ttl ms. */
const HOLD = new RedisScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0`);

/** KEYS: lease. ARGV: holder. */
const RELEASE = new RedisScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`);

export function openLease(options: {
  readonly redis: Redis;
  readonly key: string;
  readonly holder: string;
  readonly ttlMs: number;
}): Lease {
  const { redis, key, holder, ttlMs } = options;
  return {
    hold: async () => (await onRedis("holding a lease", () => HOLD.run(redis, [key], [holder, ttlMs]))) === 1,
    release: async () => {
      await onRedis("giving a lease back", () => RELEASE.run(redis, [key], [holder]));
    },
  };
}
