import type { Config } from "../config/config.ts";
import { storeOptions } from "../config/store-options.ts";
import { modelAvailability, type ModelAvailability } from "../core/model-availability.ts";
import { AppError } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import { keysFor, type Keys } from "../protocol/keys.ts";
import { openQueues } from "../queue/open-queues.ts";
import type { Queues } from "../queue/queue-types.ts";
import { connectRedis } from "../state/connect-redis.ts";
import { openCancelChannel } from "../state/open-cancel-channel.ts";
import { openEmitter } from "../state/open-emitter.ts";
import { openRegistry } from "../state/open-registry.ts";
import { openRequestIndex, type RequestIndex } from "../state/open-request-index.ts";
import { openRequests } from "../state/open-requests.ts";
import { readLive } from "../state/read-live.ts";
import type { CancelChannel, Emitter, LiveValue, Requests } from "../state/state-types.ts";
import { subscribeEvents } from "../state/subscribe-events.ts";
import { openObjectStore, type ObjectStore } from "../storage/object-store.ts";
import type { RedisFacts } from "./doctor/check-redis.ts";
import { readLocalSystem } from "./local-system.ts";

/** What commands about jobs work with: the same records and queues that workers see. */
export interface ClientSystem extends AsyncDisposable {
  readonly requests: Requests;
  readonly index: RequestIndex;
  readonly queues: Queues;
  readonly cancels: CancelChannel;
  readonly emitter: Pick<Emitter, "emitEnd">;
  /** Whether jobs of a model can run now. */
  readonly availability: (model: string) => Promise<ModelAvailability>;
  readonly store: ObjectStore;
  readonly readLive: (id: string) => Promise<LiveValue | null>;
  /** Events of one request, the last one first. */
  readonly events: (client: string, id: string, signal: AbortSignal) => AsyncIterable<JobEvent>;
}

/** The Redis to talk to: REDIS_URL, else that of a running `dryapi up` with the same state folder. @throws AppError CONFIG_INVALID */
export async function redisUrlOf(config: Pick<Config, "redisUrl" | "stateDir">): Promise<string> {
  const url = config.redisUrl ?? (await readLocalSystem(config.stateDir))?.redisUrl;
  if (url !== undefined) return url;
  throw new AppError(
    "CONFIG_INVALID",
    `REDIS_URL is unset and no \`dryapi up\` runs with the state folder ${config.stateDir}: set REDIS_URL (or DRYAPI_STATE_DIR), or start \`dryapi up\``,
  );
}

export async function openStore(config: Config): Promise<ObjectStore> {
  return openObjectStore(config.storeUrl, storeOptions(config));
}

/** @throws AppError REDIS_UNAVAILABLE | CONFIG_INVALID */
export async function openSystem(config: Config): Promise<ClientSystem> {
  const url = await redisUrlOf(config);
  await using stack = new AsyncDisposableStack();
  const store = stack.use(await openStore(config));
  const keys = keysFor(config.namespace);
  const connect = (role: "producer" | "subscriber"): ReturnType<typeof connectRedis> => {
    const redis = connectRedis({ url, role });
    stack.defer(() => redis.disconnect());
    return redis;
  };
  const redis = connect("producer");
  await reach(redis);
  const { lockMs, stalledIntervalMs, maxStalled, retentionMs, workerName } = config;
  const queues = stack.use(openQueues({ redis, keys, lockMs, stalledIntervalMs, maxStalled, retentionMs, workerName }));
  const subscriber = connect("subscriber");
  const registry = openRegistry({ redis, keys });
  const opened = stack.move();
  return {
    store,
    queues,
    requests: openRequests({ redis, keys, retentionMs }),
    index: openRequestIndex({ redis, keys }),
    cancels: openCancelChannel({ redis, keys, subscriber }),
    availability: async (model) => modelAvailability(model, await registry.list()),
    emitter: openEmitter({ redis, keys, ttlMs: retentionMs }),
    readLive: (id) => readLive(redis, keys, id),
    events: (client, id, signal) => subscribeEvents({ subscriber, redis, keys, client, id, signal }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** For commands that need Redis alone. @throws AppError REDIS_UNAVAILABLE | CONFIG_INVALID */
export async function withRedis<T>(config: Config, work: (redis: ReturnType<typeof connectRedis>, keys: Keys) => Promise<T>): Promise<T> {
  const redis = connectRedis({ url: await redisUrlOf(config), role: "producer" });
  try {
    await reach(redis);
    return await work(redis, keysFor(config.namespace));
  } finally {
    redis.disconnect();
  }
}

/** What `doctor` wants to know of a Redis. @throws AppError REDIS_UNAVAILABLE */
export async function readRedisFacts(url: string): Promise<RedisFacts> {
  const redis = connectRedis({ url, role: "producer" });
  try {
    await reach(redis);
    const started = performance.now();
    await redis.ping();
    const pingMs = performance.now() - started;
    const sentAt = Date.now();
    const [seconds, microseconds] = await redis.time();
    const receivedAt = Date.now();
    const info = await redis.info();
    // Managed services forbid CONFIG.
    const config = await redis.config("GET", "*").catch(() => null);
    return {
      info: parseInfo(info),
      config: Array.isArray(config) ? pairs(config) : null,
      clockSkewMs: Number(seconds) * 1_000 + Number(microseconds) / 1_000 - (sentAt + receivedAt) / 2,
      pingMs,
    };
  } finally {
    redis.disconnect();
  }
}

/** One PING, so that a Redis that is not there is said at once and with its cause. */
async function reach(redis: ReturnType<typeof connectRedis>): Promise<void> {
  let last: Error | undefined;
  const onError = (error: Error): void => {
    last = error;
  };
  redis.on("error", onError);
  try {
    await redis.ping();
  } catch (thrown) {
    const cause = last ?? thrown;
    const why = cause instanceof Error ? cause.message || cause.name : String(cause);
    throw new AppError("REDIS_UNAVAILABLE", `Redis does not answer: ${why}; is it running, and is REDIS_URL right?`, { cause });
  } finally {
    redis.off("error", onError);
  }
}

function parseInfo(info: string): Record<string, string> {
  const lines = info.split(/\r?\n/).filter((line) => line.includes(":"));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)]));
}

/** `[name, value, name, value]`, as CONFIG GET answers. */
function pairs(list: readonly unknown[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (let index = 0; index + 1 < list.length; index += 2) found[String(list[index])] = String(list[index + 1]);
  return found;
}
