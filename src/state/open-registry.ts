import type { Redis } from "ioredis";
import { z } from "zod";
import { serverClock } from "../lib/server-clock.ts";
import type { Keys } from "../protocol/keys.ts";
import { storedJson } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";
import type { NameHolder, Registry, WorkerAnnouncement } from "./state-types.ts";

export interface Entry {
  readonly expiresAt: number;
  readonly worker: WorkerAnnouncement;
}

/** Fields that a newer worker adds are kept. */
export const entrySchema: z.ZodType<Entry> = z.looseObject({
  expiresAt: z.number(),
  worker: z.looseObject({
    worker: z.string(),
    host: z.string(),
    pid: z.number(),
    models: z.array(z.string()),
    devices: z.array(z.looseObject({ id: z.string(), kind: z.string(), memoryBytes: z.number() })),
    draining: z.boolean(),
    at: z.number(),
  }),
});

const anyEntrySchema = z.object({ worker: z.record(z.string(), z.unknown()) });
const processSchema = z.object({ pid: z.number(), startTicks: z.string(), bootId: z.string(), pidNamespace: z.string() });

/** Long dead entries are removed by whoever reads them. */
const KEEP_EXPIRED_MS = 600_000;

/**
 * Announces unless another daemon's entry of that name has not expired yet: then its text is the answer. An entry of a version that knows
 * no instances is another daemon's. A worker without an instance announces in any case.
 * KEYS: workers. ARGV: name, instance, worker as JSON, ttl ms, the text of an entry that may be replaced, now ('' = the server's clock).
 */
const ANNOUNCE = new RedisScript(`
local now = tonumber(ARGV[6])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local text = redis.call('HGET', KEYS[1], ARGV[1])
if text and ARGV[2] ~= '' and text ~= ARGV[5] then
  local readable, entry = pcall(cjson.decode, text)
  if readable and type(entry) == 'table' and type(entry.worker) == 'table' then
    local expiresAt = tonumber(entry.expiresAt)
    if expiresAt and expiresAt > now and entry.worker.instance ~= ARGV[2] then return text end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('{"expiresAt":%.0f,"worker":%s}', now + ARGV[4], ARGV[3]))
return ''`);

/** KEYS: workers. ARGV: name, instance ('' = whosever it is). */
const WITHDRAW = new RedisScript(`
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return 0 end
if ARGV[2] ~= '' then
  local readable, entry = pcall(cjson.decode, text)
  if readable and type(entry) == 'table' and type(entry.worker) == 'table' and entry.worker.instance ~= ARGV[2] then return 0 end
end
return redis.call('HDEL', KEYS[1], ARGV[1])`);

export function openRegistry(options: {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly now?: () => number | Promise<number>;
}): Registry {
  const { redis, keys } = options;
  const now = options.now ?? serverClock(redis);
  return {
    announce: async (worker, ttlMs, replaces = "") => {
      const at = options.now === undefined ? "" : await options.now();
      const args = [worker.worker, worker.instance ?? "", JSON.stringify(worker), ttlMs, replaces, at];
      const text = await onRedis("announcing the worker", () => ANNOUNCE.run(redis, [keys.workers], args));
      return typeof text === "string" && text !== "" ? holderOf(text) : null;
    },
    withdraw: async (worker, instance = "") => {
      await onRedis("withdrawing the worker", () => WITHDRAW.run(redis, [keys.workers], [worker, instance]));
    },
    list: async () => {
      const [time, all] = await onRedis("listing workers", () => Promise.all([now(), redis.hgetall(keys.workers)]));
      // What cannot be read is no worker that we know of: it is left to whoever wrote it.
      const entries = Object.entries(all).flatMap(([name, text]) => {
        const parsed = entrySchema.safeParse(storedJson(text));
        return parsed.success ? [{ name, entry: parsed.data }] : [];
      });
      const dead = entries.filter(({ entry }) => entry.expiresAt + KEEP_EXPIRED_MS < time).map(({ name }) => name);
      // Tidying up: a Redis that takes no writes can still be read.
      if (dead.length > 0) await redis.hdel(keys.workers, ...dead).catch(() => undefined);
      return entries.filter(({ entry }) => entry.expiresAt > time).map(({ entry }) => entry.worker);
    },
  };
}

/** Of an entry of whatever version: what it does not say, or says wrongly, is null. */
function holderOf(text: string): NameHolder {
  const entry = anyEntrySchema.safeParse(storedJson(text));
  const { instance, host, pid, since, draining, process } = entry.success ? entry.data.worker : {};
  const found = processSchema.safeParse(process);
  return {
    text,
    instance: typeof instance === "string" ? instance : null,
    host: typeof host === "string" ? host : "unknown",
    pid: typeof pid === "number" ? pid : null,
    since: typeof since === "number" ? since : null,
    process: found.success ? found.data : null,
    draining: draining === true,
  };
}
