import type { Redis } from "ioredis";
import { DELIVERY_QUEUE } from "./delivery-job.ts";

const PAGE = 500;

/**
 * Parents that wait for children which will not end any more: ended before the parent was added again, or gone. BullMQ would keep such a
 * parent for ever. Does to it what BullMQ does to a parent whose last child has ended, save for `processed`.
 * KEYS: waiting-children, wait, events. ARGV: prefix of the job keys, first rank, last rank. Returns how many were looked at and freed.
 */
const FREE = `
local ids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])
local freed = 0
for _, id in ipairs(ids) do
  local dependencies = ARGV[1] .. id .. ':dependencies'
  local pending = false
  for _, child in ipairs(redis.call('SMEMBERS', dependencies)) do
    if redis.call('EXISTS', child) == 1 and not redis.call('HGET', child, 'finishedOn') then pending = true end
  end
  if not pending and redis.call('ZREM', KEYS[1], id) == 1 then
    redis.call('DEL', dependencies)
    redis.call('LPUSH', KEYS[2], id)
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', 10000, '*', 'event', 'waiting', 'jobId', id, 'prev', 'waiting-children')
    freed = freed + 1
  end
end
return { #ids, freed }`;

/** Looks at one page from `cursor` on; the next call goes on from the cursor it returns. */
export async function freeOrphans(
  redis: Redis,
  prefix: string,
  cursor: number,
): Promise<{ readonly cursor: number; readonly freed: number }> {
  const base = `${prefix}:${DELIVERY_QUEUE}`;
  const keys = [`${base}:waiting-children`, `${base}:wait`, `${base}:events`];
  const [seen, freed] = (await redis.eval(FREE, keys.length, ...keys, `${base}:`, cursor, cursor + PAGE - 1)) as [number, number];
  return { cursor: seen < PAGE ? 0 : cursor + seen - freed, freed };
}
