import type { Config } from "../../config/config.ts";
import { modelAvailability, type ModelAvailability } from "../../core/model-availability.ts";
import { isAskedFor } from "../../models/asked-for.ts";
import type { Models } from "../../models/open-models.ts";
import type { ModelEntry } from "../../models/scan-models.ts";
import type { Keys } from "../../protocol/keys.ts";
import type { Task } from "../../protocol/task.ts";
import type { connectRedis } from "../../state/connect-redis.ts";
import { onRedis } from "../../state/redis-error.ts";
import type { Registry, WorkerAnnouncement } from "../../state/state-types.ts";

/** Models that a client may name: this system has a manifest of them, and the weights are here or on a worker that was seen lately. */
export interface OfferedModels {
  list(): Promise<readonly ModelEntry[]>;
  /** Null when it is not offered, or not for this task. */
  find(slug: string, task: Task): Promise<ModelEntry | null>;
  /** Whether its jobs can run now. */
  availability(slug: string): Promise<ModelAvailability>;
  /** Live workers, those that drain among them, as of a moment ago. */
  workers(): Promise<readonly WorkerAnnouncement[]>;
}

const FRESH_MS = 2_000;

interface Announced {
  readonly workers: readonly WorkerAnnouncement[];
  /** Models that some worker serves now. */
  readonly live: ReadonlySet<string>;
  /** Models that some worker served within the retention. */
  readonly lately: ReadonlySet<string>;
}

/**
 * Workers that are restarted, or gone for the night, do not make the API refuse their models: what was announced once is offered for the
 * retention (hash `{p}:models`: slug -> last seen, unix ms). Test models that nobody asked for here are offered only while a worker serves
 * them, who was asked: a worker that served them once, by mistake or by an older version, leaves nothing behind.
 */
export function openOfferedModels(deps: {
  readonly config: Pick<Config, "models" | "pinnedModels" | "testModels" | "retentionMs">;
  readonly models: Pick<Models, "list">;
  readonly registry: Pick<Registry, "list">;
  readonly redis: ReturnType<typeof connectRedis>;
  readonly keys: Keys;
  readonly now?: () => number;
}): OfferedModels {
  const { config, models, registry, redis, keys, now = Date.now } = deps;
  let seen: Announced = { workers: [], live: new Set(), lately: new Set() };
  let seenAt = 0;

  async function announced(): Promise<Announced> {
    if (now() - seenAt < FRESH_MS) return seen;
    const workers = await registry.list();
    const live = workers.flatMap((worker) => worker.models);
    // A Redis that takes no writes can still be read: models are listed, and links work.
    if (live.length > 0)
      await redis.hset(keys.models, Object.fromEntries(live.map((slug) => [slug, String(now())]))).catch(() => undefined);
    const known = await onRedis("reading which models were served lately", () => redis.hgetall(keys.models));
    const lately = new Set(Object.entries(known).flatMap(([slug, at]) => (Number(at) > now() - config.retentionMs ? [slug] : [])));
    seen = { workers, live: new Set(live), lately };
    seenAt = now();
    return seen;
  }

  async function list(): Promise<readonly ModelEntry[]> {
    const { live, lately } = await announced();
    return models.list().filter(({ slug, state, manifest }) => {
      if (isAskedFor(manifest, config)) return state === "available" || lately.has(slug);
      return (manifest.status === "test_model" ? live : lately).has(slug);
    });
  }

  return {
    list,
    find: async (slug, task) => (await list()).find((entry) => entry.slug === slug && entry.manifest.tasks.includes(task)) ?? null,
    workers: async () => (await announced()).workers,
    availability: async (slug) => modelAvailability(slug, (await announced()).workers),
  };
}
