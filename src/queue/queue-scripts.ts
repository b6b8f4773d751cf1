import type { Redis } from "ioredis";
import { RedisScript } from "../lib/redis-script.ts";
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
 * One look at several queues. Most of a fleet's looks find nothing, so one command asks about all queues at once, and only those that hold
 * something are looked at in full. KEYS: the wait list of each queue, from whose name the others are made: all are under the same hash tag.
 * Returns for each queue that is not empty its place, what waits, head's id, its time of add, its priority, milliseconds until the next is
 * due, paused; '' = none.
 */
const LOOK = new RedisScript(`
local function parts(from, to)
  local names = {}
  for place = from, to do
    local base = string.sub(KEYS[place], 1, -5)
    for _, part in ipairs({ 'wait', 'prioritized', 'delayed' }) do names[#names + 1] = base .. part end
  end
  return names
end
local function look(place, base)
  local waiting = redis.call('LLEN', base .. 'wait') + redis.call('ZCARD', base .. 'prioritized')
  local id = redis.call('LINDEX', base .. 'wait', -1)
  local priority = ''
  if id then priority = '0' else
    local head = redis.call('ZRANGE', base .. 'prioritized', 0, 0, 'WITHSCORES')
    id = head[1]
    if id then priority = tostring(math.floor(tonumber(head[2]) / 4294967296)) end
  end
  local added = id and redis.call('HGET', base .. id, 'timestamp') or ''
  local delayed = redis.call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
  local due = ''
  if delayed[2] then
    local time = redis.call('TIME')
    due = string.format('%.0f', math.floor(tonumber(delayed[2]) / 4096) - math.floor(time[1] * 1000 + time[2] / 1000))
  end
  return { place, waiting, id or '', added or '', priority, due, redis.call('HEXISTS', base .. 'meta', 'paused') }
end
local found = {}
if redis.call('EXISTS', unpack(parts(1, #KEYS))) == 0 then return found end
for place, key in ipairs(KEYS) do
  if #KEYS == 1 or redis.call('EXISTS', unpack(parts(place, place))) > 0 then found[#found + 1] = look(place, string.sub(key, 1, -5)) end
end
return found`);

/**
 * Which queues may hold stalled jobs and are due for BullMQ's check: some job of theirs is active (or was, at the last check), and nobody
 * has checked within the interval. KEYS: the active list of each queue, from whose name the others are made. Returns their places.
 */
const DUE_FOR_CHECK = new RedisScript(`
local names = {}
for _, key in ipairs(KEYS) do
  names[#names + 1] = key
  names[#names + 1] = string.sub(key, 1, -7) .. 'stalled'
end
local due = {}
if redis.call('EXISTS', unpack(names)) == 0 then return due end
for place, key in ipairs(KEYS) do
  local base = string.sub(key, 1, -7)
  if redis.call('EXISTS', key, base .. 'stalled') > 0 and redis.call('EXISTS', base .. 'stalled-check') == 0 then due[#due + 1] = place end
end
return due`);

/**
 * Which queues hold ended jobs from before a time. BullMQ's cleaning tells every watcher of the queue that it cleaned, also when it found
 * nothing, so it is called only for these. KEYS: completed, failed of each queue. ARGV: unix ms. Returns the places of keys.
 */
const DUE_FOR_SWEEP = new RedisScript(`
local due = {}
if redis.call('EXISTS', unpack(KEYS)) == 0 then return due end
for place, key in ipairs(KEYS) do
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if oldest[2] and tonumber(oldest[2]) <= tonumber(ARGV[1]) then due[#due + 1] = place end
end
return due`);

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

type Look = readonly [place: number, waiting: number, id: string, added: string, priority: string, due: string, paused: number];

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

/** The jobs of a queue that ended in one of two ways. */
export interface EndedSet {
  readonly queue: string;
  readonly state: "completed" | "failed";
}

/** Looks at several queues in one round trip. Of an empty queue nothing more is said than that: not whether it is paused either. */
export async function peekQueues(redis: Redis, prefix: string, models: readonly string[]): Promise<readonly QueuePeek[]> {
  if (models.length === 0) return [];
  const keys = models.map((model) => `${prefix}:${model}:wait`);
  const looks = new Map(((await LOOK.run(redis, keys, [])) as readonly Look[]).map((look) => [look[0], look]));
  return models.map((model, index): QueuePeek => {
    const look = looks.get(index + 1);
    if (look === undefined) return { model, waiting: 0, head: null, topPriority: null, dueInMs: null, paused: false };
    const [, waiting, id, added, priority, due, paused] = look;
    return {
      model,
      waiting,
      head: id === "" ? null : { id, addedAt: numberOrNull(added) },
      topPriority: numberOrNull(priority),
      dueInMs: numberOrNull(due),
      paused: paused === 1,
    };
  });
}

/** The queues that BullMQ's check for stalled jobs has to go through now, in one round trip. */
export async function dueForStalledCheck(redis: Redis, prefix: string, queues: readonly string[]): Promise<readonly string[]> {
  if (queues.length === 0) return [];
  const keys = queues.map((queue) => `${prefix}:${queue}:active`);
  const places = new Set((await DUE_FOR_CHECK.run(redis, keys, [])) as readonly number[]);
  return queues.filter((_, index) => places.has(index + 1));
}

/** The sets of ended jobs in which some ended at or before `before` (unix ms by Redis' clock), in one round trip. */
export async function dueForSweep(
  redis: Redis,
  prefix: string,
  { queues, before }: { readonly queues: readonly string[]; readonly before: number },
): Promise<readonly EndedSet[]> {
  const sets = queues.flatMap((queue) => (["completed", "failed"] as const).map((state): EndedSet => ({ queue, state })));
  if (sets.length === 0) return [];
  const keys = sets.map(({ queue, state }) => `${prefix}:${queue}:${state}`);
  const places = new Set((await DUE_FOR_SWEEP.run(redis, keys, [before])) as readonly number[]);
  return sets.filter((_, index) => places.has(index + 1));
}

function numberOrNull(text: string): number | null {
  return text === "" ? null : Number(text);
}
