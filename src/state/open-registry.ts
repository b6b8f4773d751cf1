import type { Redis } from "ioredis";
import { z } from "zod";
import { serverClock } from "../lib/server-clock.ts";
import type { Keys } from "../protocol/keys.ts";
import { storedJson } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";
import type { Registry, WorkerAnnouncement } from "./state-types.ts";

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

/** Long dead entries are removed by whoever reads them. */
const KEEP_EXPIRED_MS = 600_000;

export function openRegistry(options: {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly now?: () => number | Promise<number>;
}): Registry {
  const { redis, keys } = options;
  const now = options.now ?? serverClock(redis);
  return {
    announce: async (worker, ttlMs) => {
      await onRedis("announcing the worker", async () => {
        const entry: Entry = { expiresAt: (await now()) + ttlMs, worker };
        await redis.hset(keys.workers, worker.worker, JSON.stringify(entry));
      });
    },
    withdraw: async (worker) => {
      await onRedis("withdrawing the worker", () => redis.hdel(keys.workers, worker));
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
