import type { Redis } from "ioredis";
import type { ClaimRef, OrderedClaim, QueuePeek } from "./queue-types.ts";

/**
 * Takes a claim up again: the lock is still ours, or it has expired and the job is still active and was not claimed since.
 * KEYS: lock, job, active list, stalled set. ARGV: token, job id, lock ms, claim number. Returns 1 or 0.
 */
const ADOPT = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[2], 'ats') ~= ARGV[4] then return 0 end
local active = redis.call('LPOS', KEYS[3], ARGV[2])
if not active then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('SREM', KEYS[4], ARGV[2])
return 1`;

/**
 * One look at one queue. KEYS: wait, prioritized, delayed, meta. ARGV: prefix of the job keys. The head's own key is made inside: it is
 * under the same hash tag. Returns waiting, head's id, its time of add, its priority, milliseconds until the next is due, paused; '' = none.
 */
const PEEK = `
local waiting = redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2])
local id = redis.call('LINDEX', KEYS[1], -1)
local priority = ''
if id then priority = '0' else
  local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  id = head[1]
  if id then priority = tostring(math.floor(tonumber(head[2]) / 4294967296)) end
end
local added = id and redis.call('HGET', ARGV[1] .. id, 'timestamp') or ''
local delayed = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
local due = ''
if delayed[2] then
  local time = redis.call('TIME')
  due = string.format('%.0f', math.floor(tonumber(delayed[2]) / 4096) - math.floor(time[1] * 1000 + time[2] / 1000))
end
return { waiting, id or '', added or '', priority, due, redis.call('HEXISTS', KEYS[4], 'paused') }`;

/**
 * Puts a job that BullMQ has just handed back before all of its priority class, in the order of the claims. BullMQ gives each the class's
 * lowest score, and Redis orders equal scores by id: several hand-backs would stand in the order of their ids. Below the first counted
 * score (class + 1) lies room for 4,096 places at priorities under 512, fewer above; those that are there are spread anew, the last place
 * being shared by what does not fit. A job that was claimed meanwhile is left alone.
 * KEYS: prioritized. ARGV: job id, its order, prefix of the job keys. The job's own key is made inside: it is under the same hash tag.
 */
const PLACE_FIRST = `
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then return 0 end
local class = math.floor(tonumber(score))
if class % 4294967296 ~= 0 then return 0 end
redis.call('HSET', ARGV[3] .. ARGV[1], 'order', ARGV[2])
local from, to = string.format('%.17g', class), string.format('(%.17g', class + 1)
local entries = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], from, to)) do
  entries[#entries + 1] = { id, tonumber(redis.call('HGET', ARGV[3] .. id, 'order') or ARGV[2]) }
end
table.sort(entries, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1]) end)
local _, exponent = math.frexp(class)
local step = 2 ^ math.max(-12, exponent - 53)
for n, entry in ipairs(entries) do
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.17g', math.min(class + n * step, class + 1 - step)), entry[1])
end
return 1`;

type PeekAnswer = readonly [waiting: number, id: string, added: string, priority: string, due: string, paused: number];

export async function adoptLock(redis: Redis, prefix: string, ref: ClaimRef, lockMs: number): Promise<boolean> {
  const base = `${prefix}:${ref.queue}`;
  const keys = [`${base}:${ref.id}:lock`, `${base}:${ref.id}`, `${base}:active`, `${base}:stalled`];
  const answer = await redis.eval(ADOPT, keys.length, ...keys, ref.token, ref.id, lockMs, ref.claim);
  return answer === 1;
}

/** After BullMQ's own hand-back: see PLACE_FIRST. */
export async function placeFirst(redis: Redis, prefix: string, claim: OrderedClaim): Promise<void> {
  const base = `${prefix}:${claim.queue}`;
  await redis.eval(PLACE_FIRST, 1, `${base}:prioritized`, claim.id, claim.order, `${base}:`);
}

/** Looks at several queues in one round trip. */
export async function peekQueues(redis: Redis, prefix: string, models: readonly string[]): Promise<readonly QueuePeek[]> {
  return Promise.all(
    models.map(async (model): Promise<QueuePeek> => {
      const base = `${prefix}:${model}`;
      const keys = [`${base}:wait`, `${base}:prioritized`, `${base}:delayed`, `${base}:meta`];
      const answer = (await redis.eval(PEEK, keys.length, ...keys, `${base}:`)) as PeekAnswer;
      const [waiting, id, added, priority, due, paused] = answer;
      return {
        model,
        waiting,
        head: id === "" ? null : { id, addedAt: numberOrNull(added) },
        topPriority: numberOrNull(priority),
        dueInMs: numberOrNull(due),
        paused: paused === 1,
      };
    }),
  );
}

function numberOrNull(text: string): number | null {
  return text === "" ? null : Number(text);
}
