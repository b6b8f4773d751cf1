import { AppError } from "../protocol/error.ts";
import { keysFor, type Keys } from "../protocol/keys.ts";
import { openQueues } from "../queue/open-queues.ts";
import type { Queues } from "../queue/queue-types.ts";
import { connectRedis, type RedisRole } from "../state/connect-redis.ts";
import { openDeliveries, type Deliveries } from "../state/open-deliveries.ts";
import { openEmitter } from "../state/open-emitter.ts";
import { openRegistry } from "../state/open-registry.ts";
import { openRequestIndex, type RequestIndex } from "../state/open-request-index.ts";
import { openRequests } from "../state/open-requests.ts";
import { openRunTimes, type RunTimes } from "../state/open-run-times.ts";
import { openSecrets, type Secrets } from "../state/open-secrets.ts";
import { openWebhooks, type Webhooks } from "../state/open-webhooks.ts";
import { readLive } from "../state/read-live.ts";
import { openRedisHealth, type RedisHealth } from "../state/redis-health.ts";
import type { Emitter, LiveValue, Registry, Requests } from "../state/state-types.ts";

type Redis = ReturnType<typeof connectRedis>;

/** The settings that matter to what is in Redis; a Config has them all. */
export interface StateSettings {
  readonly redisUrl: string | null;
  readonly namespace: string;
  readonly retentionMs: number;
  readonly lockMs: number;
  readonly stalledIntervalMs: number;
  readonly maxStalled: number;
  readonly workerName: string;
}

export interface OpenStateOptions {
  readonly settings: StateSettings;
  /** Of the connection for single commands. */
  readonly role: RedisRole;
  /** Of a connection of the queues' own; absent: they share the other. */
  readonly queueRole?: RedisRole;
  /** What is opened is closed through it, in reverse. */
  readonly stack: AsyncDisposableStack;
  readonly onError?: (error: Error, role: RedisRole) => void;
}

/** All that programs have in common in Redis: the same keys, records and queues, whoever looks. */
export interface SharedState {
  readonly keys: Keys;
  readonly redis: Redis;
  /** A further connection, closed with the others. */
  readonly connect: (role: RedisRole) => Redis;
  readonly health: RedisHealth;
  readonly queues: Queues;
  readonly requests: Requests;
  readonly index: RequestIndex;
  readonly emitter: Emitter;
  readonly registry: Registry;
  readonly runTimes: RunTimes;
  readonly secrets: Secrets;
  readonly webhooks: Webhooks;
  readonly deliveries: Deliveries;
  readonly readLive: (id: string) => Promise<LiveValue | null>;
}

/** Opens connections, which connect in the background, and what works on them. Nothing is asked of Redis yet. @throws AppError CONFIG_INVALID */
export function openState({ settings, role, queueRole, stack, onError }: OpenStateOptions): SharedState {
  const { redisUrl: url, namespace, retentionMs, lockMs, stalledIntervalMs, maxStalled, workerName } = settings;
  if (url === null)
    throw new AppError(
      "CONFIG_INVALID",
      "REDIS_URL is unset: set it to the Redis of the queues, or use `dryapi up`, which starts a private one",
    );
  const connect = (of: RedisRole): Redis => {
    const redis = connectRedis({ url, role: of, ...(onError !== undefined && { onError: (error) => onError(error, of) }) });
    stack.defer(() => redis.disconnect());
    return redis;
  };
  const keys = keysFor(namespace);
  const redis = connect(role);
  const health = openRedisHealth({ redis, keys });
  const queueRedis = queueRole === undefined ? redis : connect(queueRole);
  const queues = stack.use(openQueues({ redis: queueRedis, keys, lockMs, stalledIntervalMs, maxStalled, retentionMs, workerName }));
  const shared = { redis, keys, retentionMs };
  return {
    keys,
    redis,
    connect,
    health,
    queues,
    requests: openRequests(shared),
    index: openRequestIndex(shared),
    emitter: openEmitter({ ...shared, ttlMs: retentionMs }),
    registry: openRegistry(shared),
    runTimes: openRunTimes(shared),
    secrets: openSecrets(shared),
    webhooks: openWebhooks(shared),
    deliveries: openDeliveries(shared),
    readLive: (id) => readLive(redis, keys, id),
  };
}
