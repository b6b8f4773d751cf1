import type { Config } from "../config/config.ts";
import { storeOptions } from "../config/store-options.ts";
import { modelAvailability, type ModelAvailability } from "../core/model-availability.ts";
import { redisFailure, type RedisFailureKind } from "../core/redis-failure.ts";
import { AppError } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import { keysFor, type Keys } from "../protocol/keys.ts";
import { openState, type SharedState } from "../requests/open-state.ts";
import { connectRedis } from "../state/connect-redis.ts";
import { openCancelChannel } from "../state/open-cancel-channel.ts";
import { openRegistry } from "../state/open-registry.ts";
import { openRedisHealth } from "../state/redis-health.ts";
import type { CancelChannel } from "../state/state-types.ts";
import { subscribeEvents } from "../state/subscribe-events.ts";
import { openObjectStore, type ObjectStore } from "../storage/object-store.ts";
import type { RedisFacts } from "./doctor/check-redis.ts";
import { readLocalSystem } from "./local-system.ts";

/** What commands about jobs work with: the same records and queues that workers see. */
export interface ClientSystem extends SharedState, AsyncDisposable {
  readonly cancels: CancelChannel;
  /** Whether jobs of a model can run now. */
  readonly availability: (model: string) => Promise<ModelAvailability>;
  readonly store: ObjectStore;
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
  const redisUrl = await redisUrlOf(config);
  await using stack = new AsyncDisposableStack();
  const store = stack.use(await openStore(config));
  const state = openState({ settings: { ...config, redisUrl }, role: "producer", queueRole: "adder", stack });
  await state.health.prove();
  const { redis, keys } = state;
  const subscriber = state.connect("subscriber");
  const registry = openRegistry({ redis, keys });
  const opened = stack.move();
  return {
    ...state,
    store,
    cancels: openCancelChannel({ redis, keys, subscriber }),
    availability: async (model) => modelAvailability(model, await registry.list()),
    events: (client, id, signal) => subscribeEvents({ subscriber, redis, keys, client, id, signal }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** For commands that need Redis alone. @throws AppError REDIS_UNAVAILABLE | CONFIG_INVALID */
export async function withRedis<T>(config: Config, work: (redis: ReturnType<typeof connectRedis>, keys: Keys) => Promise<T>): Promise<T> {
  const redis = connectRedis({ url: await redisUrlOf(config), role: "producer" });
  const keys = keysFor(config.namespace);
  try {
    await openRedisHealth({ redis, keys }).prove();
    return await work(redis, keys);
  } finally {
    redis.disconnect();
  }
}

/** Reads go on. */
const WRITE_FAILURES: ReadonlySet<RedisFailureKind> = new Set<RedisFailureKind>(["read-only", "no-replicas", "out-of-memory", "disk"]);

/** What `doctor` wants to know of a Redis. @throws AppError REDIS_UNAVAILABLE when it cannot even be read */
export async function readRedisFacts(url: string, namespace: string): Promise<RedisFacts> {
  const redis = connectRedis({ url, role: "producer" });
  const health = openRedisHealth({ redis, keys: keysFor(namespace) });
  try {
    const writeFailure = await health.prove().then(
      () => null,
      async (thrown: unknown) => {
        const failure = redisFailure(thrown);
        if (failure !== null && WRITE_FAILURES.has(failure.kind)) return failure;
        return refuse(redis, thrown);
      },
    );
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
      writeFailure,
      info: parseInfo(info),
      config: Array.isArray(config) ? pairs(config) : null,
      clockSkewMs: Number(seconds) * 1_000 + Number(microseconds) / 1_000 - (sentAt + receivedAt) / 2,
      pingMs,
    };
  } finally {
    redis.disconnect();
  }
}

/** @throws what was thrown, or what is behind it: a sentinel knows no command of ours and would pass for an old Redis */
async function refuse(redis: ReturnType<typeof connectRedis>, thrown: unknown): Promise<never> {
  const info = await redis.info("server").catch(() => "");
  if (!/^redis_mode:sentinel/m.test(info)) throw thrown;
  throw new AppError(
    "CONFIG_INVALID",
    "REDIS_URL leads to a sentinel as if it were a Redis: write redis+sentinel://host:port,host:port/<name of the primary>",
    { cause: thrown },
  );
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
