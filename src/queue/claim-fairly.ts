import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { DELIVERY_QUEUE } from "./delivery-job.ts";

/** Deliveries of one client to one origin. */
export interface Lane {
  /** Empty where the request's record is gone, as the origin is then. */
  readonly client: string;
  /** Scheme, host and port of the URL, in lower case. */
  readonly origin: string;
}

export interface ClaimRoom {
  /** Deliveries that may be claimed now. */
  readonly most: number;
  /** Places of this courier: a client gets one while it has fewer than are free, so a lone client gets half of them. */
  readonly places: number;
  /** Places at one origin, by the same rule. */
  readonly placesAtOrigin: number;
  /** What this courier has under way. */
  readonly held: readonly (readonly [lane: Lane, count: number])[];
}

export interface FairClaim {
  readonly id: string;
  readonly token: string;
  readonly lane: Lane;
  /** The job's hash: names and values in turn. */
  readonly pairs: readonly string[];
}

export interface FairClaims {
  readonly claims: readonly FairClaim[];
  /** There are deliveries that could not be looked at yet: claim again. */
  readonly more: boolean;
  /** Milliseconds until the next delayed delivery falls due; null when none waits. */
  readonly dueInMs: number | null;
}

/** Deliveries that one call puts into lanes: bounds how long Redis is busy with one. */
const SORTED_AT_ONCE = 250;

/**
 * Claims what is due, fairly: BullMQ's queue is one line for all clients, and one with thousands of deliveries, or with receivers that hang,
 * would hold up every other. So each delivery that is due is put into a lane of its client and origin once (amortized O(1)), and claims go
 * round the clients, and within a client round its origins, one each.
 *
 * Who has no room is passed over. A client gets a further place while it has fewer than are free ("dynamic thresholds", Choudhury and Hahne
 * 1998): k clients whose receivers hang get 1/(k+1) of the places each, and as many stay free for everybody else. The same rule holds at an
 * origin that several clients use.
 *
 * The truth stays BullMQ's: a delivery in a lane is still in `prioritized`, with a score of class 2 as the mark, so that a courier of an older
 * version takes it from there (and its entry in the lane is dropped when its turn comes). Lanes that were lost are made anew. What is claimed
 * is claimed as BullMQ's moveToActive does it: active list, lock, event, `processedOn`, `pb`, `ats`.
 *
 * KEYS: wait, prioritized, delayed, active, events, meta, clients, turns. ARGV: prefix of all keys, prefix of job keys, prefix of lanes, most
 * claims, places, places at an origin, lock ms, token, worker, most to sort; then client, origin and count of what is under way.
 * Returns whether there is more to sort, ms until the next is due ('' = none), and of each claim: id, token, client, origin, the job's hash.
 */
const CLAIM_FAIRLY = `
local wait, prioritized, delayed, active, events, meta, clients, turns = unpack(KEYS)
local prefix, jobs, lanes = ARGV[1], ARGV[2], ARGV[3]
local most, places, placesAtOrigin = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lockMs, token, worker, budget = ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
if redis.call('HEXISTS', meta, 'paused') == 1 then return { 0, '' } end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local turn = tonumber(redis.call('GET', turns) or '0')
local CLASS = 4294967296

local function laneOf(id)
  local data = redis.pcall('HGET', jobs .. id, 'data')
  local readable, job = pcall(cjson.decode, type(data) == 'string' and data or '')
  local request = readable and type(job) == 'table' and job['requestId']
  if type(request) ~= 'string' then return '', '' end
  local known = redis.pcall('HMGET', prefix .. ':req:' .. request, 'client', 'webhook_url')
  if known['err'] or not known[1] then return '', '' end
  return known[1], string.match(string.lower(known[2] or ''), '^%a[%w%+%.%-]*://[^/?#\\\\]+') or ''
end

local function sort(id, first)
  local client, origin = laneOf(id)
  turn = turn + 1
  redis.call('ZADD', prioritized, 2 * CLASS + turn % CLASS, id)
  redis.call(first and 'LPUSH' or 'RPUSH', lanes .. 'due:' .. client .. ' ' .. origin, id)
  redis.call('ZADD', lanes .. 'origins:' .. client, 'NX', turn, origin)
  redis.call('ZADD', clients, 'NX', turn, client)
  budget = budget - 1
end

-- What a courier that died left, what was handed back, what is new, what fell due.
while budget > 0 do
  local id = redis.call('RPOP', wait)
  if not id then break end
  sort(id, true)
end
local front = redis.call('ZRANGEBYSCORE', prioritized, '-inf', '(' .. string.format('%.17g', CLASS + 1), 'LIMIT', 0, budget)
for n = #front, 1, -1 do sort(front[n], true) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prioritized, CLASS + 1, '(' .. string.format('%.17g', 2 * CLASS), 'LIMIT', 0, budget)) do
  sort(id, false)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, 0, (now + 1) * 4096 - 1, 'LIMIT', 0, budget)) do
  redis.call('ZREM', delayed, id)
  redis.call('HSET', jobs .. id, 'delay', 0)
  redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
  sort(id, false)
end
if redis.call('ZCARD', clients) == 0 then
  for _, id in ipairs(redis.call('ZRANGE', prioritized, 0, budget - 1)) do sort(id, false) end
end

local under, ofClient, atOrigin, inLane = 0, {}, {}, {}
local function count(client, origin, by)
  local lane = client .. ' ' .. origin
  under = under + by
  ofClient[client] = (ofClient[client] or 0) + by
  atOrigin[origin] = (atOrigin[origin] or 0) + by
  inLane[lane] = (inLane[lane] or 0) + by
end
for n = 11, #ARGV, 3 do count(ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2])) end

local claims = {}
local function claim(id, client, origin)
  local job, lock = jobs .. id, token .. ':' .. (#claims + 1)
  redis.call('LPUSH', active, id)
  redis.call('SET', job .. ':lock', lock, 'PX', lockMs)
  redis.call('XADD', events, '*', 'event', 'active', 'jobId', id, 'prev', 'waiting')
  redis.call('HSET', job, 'processedOn', now, 'pb', worker)
  redis.call('HINCRBY', job, 'ats', 1)
  claims[#claims + 1] = { id, lock, client, origin, redis.call('HGETALL', job) }
  count(client, origin, 1)
end

-- The next of a lane that nobody took or removed meanwhile.
local function take(list)
  while true do
    local id = redis.call('LPOP', list)
    if not id then return nil end
    if redis.call('ZREM', prioritized, id) == 1 and redis.call('EXISTS', jobs .. id) == 1 then return id end
  end
end

-- One claim for a client: true; none, for want of room: false; none, for want of deliveries: nil.
local function serve(client)
  if (ofClient[client] or 0) >= places - under then return false end
  local origins, passed = lanes .. 'origins:' .. client, 0
  while true do
    local page = redis.call('ZRANGE', origins, passed, passed + 49)
    if #page == 0 then
      if passed > 0 then return false end
      return nil
    end
    for _, origin in ipairs(page) do
      local lane = client .. ' ' .. origin
      if (inLane[lane] or 0) >= placesAtOrigin - (atOrigin[origin] or 0) then
        passed = passed + 1
      else
        local id = take(lanes .. 'due:' .. lane)
        turn = turn + 1
        if redis.call('EXISTS', lanes .. 'due:' .. lane) == 1 then redis.call('ZADD', origins, turn, origin)
        else redis.call('ZREM', origins, origin) end
        if id then
          claim(id, client, origin)
          return true
        end
      end
    end
  end
end

-- Once round the clients that had their turn before this; true when somebody got something.
local function goRound()
  local before, passed, got = turn, 0, false
  while true do
    local page = redis.call('ZRANGE', clients, passed, passed + 49, 'WITHSCORES')
    if #page == 0 then return got end
    for n = 1, #page, 2 do
      if #claims >= most or under >= places then return false end
      if tonumber(page[n + 1]) > before then return got end
      local client = page[n]
      local served = serve(client)
      if served == false then
        passed = passed + 1
      else
        turn = turn + 1
        if redis.call('EXISTS', lanes .. 'origins:' .. client) == 1 then redis.call('ZADD', clients, turn, client)
        else redis.call('ZREM', clients, client) end
        got = got or served
      end
    end
  end
end
while goRound() do end
redis.call('SET', turns, turn)

local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
return { budget <= 0 and 1 or 0, due and string.format('%.0f', math.floor(tonumber(due) / 4096) - now) or '', unpack(claims) }`;

type RawClaim = readonly [id: string, token: string, client: string, origin: string, pairs: readonly string[]];
type RawClaims = readonly [more: number, dueInMs: string, ...claims: readonly RawClaim[]];

export interface FairClaimer {
  /** `token`: the locks' tokens begin with it. */
  claim(token: string, room: ClaimRoom): Promise<FairClaims>;
}

/** Claims from the courier's queue in Redis' own time. */
export function openFairClaimer(options: {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly lockMs: number;
  readonly workerName: string;
}): FairClaimer {
  const { redis, keys, lockMs, workerName } = options;
  const jobs = `${keys.prefix}:${DELIVERY_QUEUE}:`;
  const names = [
    ...["wait", "prioritized", "delayed", "active", "events", "meta"].map((name) => jobs + name),
    keys.lanes.clients,
    keys.lanes.turns,
  ];
  redis.defineCommand("dryapiClaimFairly", { numberOfKeys: names.length, lua: CLAIM_FAIRLY });
  const commands = redis as unknown as { dryapiClaimFairly(...args: readonly (string | number)[]): Promise<RawClaims> };
  return {
    claim: async (token, { most, places, placesAtOrigin, held }) => {
      const settings = [keys.prefix, jobs, keys.lanes.prefix, most, places, placesAtOrigin, lockMs, token, workerName, SORTED_AT_ONCE];
      const underWay = held.flatMap(([{ client, origin }, count]) => [client, origin, count]);
      const [more, dueInMs, ...claims] = await commands.dryapiClaimFairly(...names, ...settings, ...underWay);
      return {
        more: more === 1,
        dueInMs: dueInMs === "" ? null : Number(dueInMs),
        claims: claims.map(([id, lock, client, origin, pairs]) => ({ id, token: lock, lane: { client, origin }, pairs })),
      };
    },
  };
}
