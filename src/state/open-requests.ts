import type { Redis } from "ioredis";
import { serverClock } from "../lib/server-clock.ts";
import type { Keys } from "../protocol/keys.ts";
import { REQUEST_VERSION, requestSchema, type RequestRecord } from "../protocol/request.ts";
import { readStored, storedJson, storedNumber } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";
import type { Requests } from "./state-types.ts";

/**
 * KEYS: record, unqueued, the client's index. ARGV: ttl ms, id, created at (unix ms), field, value ... Writes all fields unless the record
 * exists, and enters it into both lists; what is older than the retention leaves the client's.
 */
const CREATE = new RedisScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, ARGV[3] - ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[1])
return 1`);

/** KEYS: record. ARGV: field, value. Sets the field unless it is set (absent and empty are the same): 1 set now, 0 was set, -1 no record. */
const SET_ONCE = new RedisScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= '' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`);

/** KEYS: record. ARGV: now. Sets started_at unless it is set. Returns when it was set, and whether that was now (0 or 1); nothing without a record. */
const START = new RedisScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local started = redis.call('HGET', KEYS[1], 'started_at')
if started and started ~= '' then return { started, 0 } end
redis.call('HSET', KEYS[1], 'started_at', ARGV[1])
return { ARGV[1], 1 }`);

export function openRequests(options: { readonly redis: Redis; readonly keys: Keys; readonly retentionMs: number }): Requests {
  const { redis, keys, retentionMs } = options;
  const setOnce = (id: string, field: string, at: number): Promise<unknown> =>
    onRedis(`recording ${field} of request ${id}`, () => SET_ONCE.run(redis, [keys.request(id)], [field, at]));
  const now = serverClock(redis);
  const creation = (record: RequestRecord): [string[], (string | number)[]] => {
    const { id, client, createdAt } = record;
    const names = [keys.request(id), keys.unqueued, keys.index(client)];
    return [names, [retentionMs, id, createdAt, ...Object.entries(toHash(record)).flat()]];
  };
  return {
    now: () => onRedis("asking for the time", now),
    create: async (record) => {
      const [names, args] = creation(record);
      return (await onRedis(`recording request ${record.id}`, () => CREATE.run(redis, names, args))) === 1;
    },
    creation: (record) => CREATE.step(...creation(record)),
    get: async (id) => {
      const hash = await onRedis(`reading request ${id}`, () => redis.hgetall(keys.request(id)));
      return Object.keys(hash).length === 0 ? null : fromHash(id, hash);
    },
    markStarted: async (id, at) => {
      const answer = await onRedis(`recording the start of request ${id}`, () => START.run(redis, [keys.request(id)], [at]));
      const [startedAt, first] = answer as readonly [string?, number?];
      return { first: first === 1, elapsedMs: startedAt === undefined ? 0 : Math.max(0, at - Number(startedAt)) };
    },
    markCancelled: async (id) => (await setOnce(id, "cancelled_at", await onRedis(`recording cancelled_at of request ${id}`, now))) !== -1,
    cancelledAmong: async (ids) => {
      const marks = await onRedis("reading cancel marks", () => Promise.all(ids.map((id) => redis.hget(keys.request(id), "cancelled_at"))));
      return new Set(ids.filter((_, index) => (marks[index] ?? "") !== ""));
    },
  };
}

type Hash = Readonly<Record<string, string>>;

function toHash(record: RequestRecord): Hash {
  return {
    v: String(record.v),
    id: record.id,
    queue: record.queue,
    client: record.client,
    task: record.task,
    model: record.model,
    params: JSON.stringify(record.params),
    inputs: JSON.stringify(record.inputs),
    priority: String(record.priority),
    timeout_ms: String(record.timeoutMs),
    webhook_url: record.webhookUrl ?? "",
    webhook_secret_ref: record.webhookSecretRef ?? "",
    created_at: String(record.createdAt),
    started_at: numberText(record.startedAt),
    cancelled_at: numberText(record.cancelledAt),
  };
}

/** @throws AppError RECORD_UNREADABLE */
function fromHash(id: string, hash: Hash): RequestRecord {
  return readStored(
    `request record ${id}`,
    { schema: requestSchema, newest: REQUEST_VERSION },
    {
      v: storedNumber(hash["v"]),
      id,
      queue: hash["queue"],
      client: hash["client"],
      task: hash["task"],
      model: hash["model"],
      params: storedJson(hash["params"]),
      inputs: storedJson(hash["inputs"]),
      priority: storedNumber(hash["priority"]),
      timeoutMs: storedNumber(hash["timeout_ms"]),
      webhookUrl: textOf(hash["webhook_url"]),
      webhookSecretRef: textOf(hash["webhook_secret_ref"]),
      createdAt: storedNumber(hash["created_at"]),
      startedAt: storedNumber(hash["started_at"]),
      cancelledAt: storedNumber(hash["cancelled_at"]),
    },
  );
}

function numberText(value: number | null): string {
  return value === null ? "" : String(value);
}

function textOf(text: string | undefined): string | null {
  return text === undefined || text === "" ? null : text;
}
