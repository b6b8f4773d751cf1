import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";

/** A look covers so many of a queue's first jobs; those behind them get their turn when these are gone. */
const LOOK_AT = 1_000;

/**
 * Remembers since when each waiting job of a queue has been found without a worker that can run it, by Redis' clock alone. Several workers
 * may ask; one that asks again goes on where it was before a restart.
 * KEYS: ledger, prioritized, delayed, active. ARGV: most jobs, bound ms, ttl ms.
 * Returns the ids that have been so for the bound and could be claimed now.
 */
const LONG_UNSERVABLE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, set in ipairs({ KEYS[2], KEYS[3] }) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, ARGV[1] - 1)) do redis.call('ZADD', KEYS[1], 'NX', now, id) end
end
local found = {}
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local due = redis.call('ZSCORE', KEYS[3], entry)
  local claimable = redis.call('ZSCORE', KEYS[2], entry) or (due and due / 4096 <= now)
  if claimable then
    if tonumber(redis.call('ZSCORE', KEYS[1], entry)) <= now - ARGV[2] then found[#found + 1] = entry end
  elseif not due and not redis.call('LPOS', KEYS[4], entry) then
    redis.call('ZREM', KEYS[1], entry)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return found`;

export interface UnservableLook {
  /** How long a job must have been without a worker. */
  readonly boundMs: number;
  /** The memory is lost when nobody asks for so long. */
  readonly forgetMs: number;
}

export async function longUnservable(redis: Redis, keys: Keys, model: string, look: UnservableLook): Promise<readonly string[]> {
  const base = `${keys.prefix}:${model}`;
  const names = [keys.unservable(model), `${base}:prioritized`, `${base}:delayed`, `${base}:active`];
  return (await redis.eval(LONG_UNSERVABLE, names.length, ...names, LOOK_AT, look.boundMs, look.forgetMs)) as string[];
}
