import type { Redis } from "ioredis";
import { serverClock } from "../lib/server-clock.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";

export interface RateDecision {
  readonly allowed: boolean;
  readonly type: "minute" | "daily";
  /** Of the window that decided, or the tighter one when both allow; null = no limit at all. */
  readonly limit: number | null;
  readonly remaining: number;
  /** Until the window ends. */
  readonly retryAfterS: number;
}

/** Submits per client in fixed windows (a minute, a UTC day), counted in Redis so that all gateways share them. 0 = no limit. */
export interface RateLimits {
  /** Counts one submit unless a window is full; a refused one is not counted. @throws AppError REDIS_UNAVAILABLE */
  take(client: string, limits: { readonly perMinute: number; readonly perDay: number }): Promise<RateDecision>;
}

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** KEYS: minute, day. ARGV: limit of each (0 = none), ttl ms of each. Returns both counts; negative when that window refused. */
const TAKE = new RedisScript(`
local function count(key)
  local found = tonumber(redis.call('GET', key) or '0')
  if not found then redis.call('DEL', key) end
  return found or 0
end
local minute, day = count(KEYS[1]), count(KEYS[2])
local perMinute, perDay = tonumber(ARGV[1]), tonumber(ARGV[2])
if perMinute > 0 and minute >= perMinute then return {-1, day} end
if perDay > 0 and day >= perDay then return {minute, -1} end
minute = redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
day = redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {minute, day}`);

export function openRateLimits(options: {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly now?: () => number | Promise<number>;
}): RateLimits {
  const { redis, keys } = options;
  const now = options.now ?? serverClock(redis);
  return {
    take: async (client, { perMinute, perDay }) => {
      const at = await onRedis("counting a submit", async () => now());
      const left = { minute: MINUTE_MS - (at % MINUTE_MS), daily: DAY_MS - (at % DAY_MS) };
      const names = [keys.rate(client, `m${Math.floor(at / MINUTE_MS)}`), keys.rate(client, `d${Math.floor(at / DAY_MS)}`)];
      const counts = (await onRedis("counting a submit", () =>
        TAKE.run(redis, names, [perMinute, perDay, left.minute + 1_000, left.daily + 1_000]),
      )) as [number, number];
      const seconds = (type: "minute" | "daily"): number => Math.ceil(left[type] / 1_000);
      if (counts[0] < 0) return { allowed: false, type: "minute", limit: perMinute, remaining: 0, retryAfterS: seconds("minute") };
      if (counts[1] < 0) return { allowed: false, type: "daily", limit: perDay, remaining: 0, retryAfterS: seconds("daily") };
      const leftOf = (limit: number, count: number): number => (limit === 0 ? Infinity : limit - count);
      const minute = leftOf(perMinute, counts[0]);
      const day = leftOf(perDay, counts[1]);
      const type = day < minute ? "daily" : "minute";
      const limit = type === "daily" ? perDay : perMinute;
      return { allowed: true, type, limit: limit === 0 ? null : limit, remaining: Math.min(minute, day), retryAfterS: seconds(type) };
    },
  };
}
