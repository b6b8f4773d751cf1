import type { Config } from "../config/config.ts";
import { storeOptions } from "../config/store-options.ts";
import { sleep } from "../lib/backoff.ts";
import { openGuardedFetch } from "../net/open-guarded-fetch.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { keysFor, type Keys } from "../protocol/keys.ts";
import { openDeliveryQueue, type DeliveryQueue } from "../queue/open-delivery-queue.ts";
import { openQueues } from "../queue/open-queues.ts";
import { connectRedis } from "../state/connect-redis.ts";
import { openDeliveries } from "../state/open-deliveries.ts";
import { openRequests } from "../state/open-requests.ts";
import { openSecrets } from "../state/open-secrets.ts";
import { openWebhooks } from "../state/open-webhooks.ts";
import { readLive } from "../state/read-live.ts";
import { openObjectStore } from "../storage/object-store.ts";
import type { HealthReport } from "../telemetry/admin-server.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { CourierContext, CourierMetrics } from "./courier-context.ts";

export interface CourierOptions {
  readonly log: Logger;
  readonly metrics: CourierMetrics;
  /** Base of result links, without a trailing slash. */
  readonly publicUrl: () => string;
  /** Ends the courier: deliveries under way get a few seconds. */
  readonly signal: AbortSignal;
  /** As `GuardedFetchOptions`. */
  readonly ca?: readonly string[];
  /** Called once deliveries are being claimed, with what tells whether they still can be. */
  readonly onReady?: (check: () => Promise<HealthReport>) => void;
}

const CONNECT_RETRY_MS = 500;

export interface CourierParts {
  readonly context: CourierContext;
  readonly keys: Keys;
  readonly redis: ReturnType<typeof connectRedis>;
  readonly blocking: ReturnType<typeof connectRedis>;
}

/** Opens what a courier works with. Null when the signal aborted while Redis was waited for. */
export async function openCourier(config: Config, options: CourierOptions, stack: AsyncDisposableStack): Promise<CourierParts | null> {
  const { log, metrics, publicUrl, signal, ca } = options;
  const url = config.redisUrl;
  if (url === null) throw new AppError("CONFIG_INVALID", "REDIS_URL is unset: set it to the Redis of the queue");
  const { egressAllow, allowHttpWebhooks: allowHttp, lockMs, stalledIntervalMs, maxStalled, retentionMs, workerName } = config;
  const fetch = stack.use(openGuardedFetch({ egressAllow, allowHttp, ...(ca !== undefined && { ca }) }));
  const connect = (role: "worker" | "blocking"): ReturnType<typeof connectRedis> => {
    const redis = connectRedis({ url, role, onError: (error) => log.debug({ err: error, role }, "Redis connection") });
    stack.defer(() => redis.disconnect());
    return redis;
  };
  const keys = keysFor(config.namespace);
  const redis = connect("worker");
  const shared = { redis, keys, retentionMs };
  const store = stack.use(await openObjectStore(config.storeUrl, storeOptions(config)));
  const queues = stack.use(openQueues({ ...shared, lockMs, stalledIntervalMs, maxStalled, workerName }));
  const delivering = { ...shared, lockMs, stalledIntervalMs, workerName };
  const queue = await opened(() => openDeliveryQueue(delivering), signal);
  if (queue === null) return null;
  const context: CourierContext = {
    config,
    log,
    metrics,
    queue: stack.use(queue),
    deliveries: openDeliveries(shared),
    webhooks: openWebhooks(shared),
    fetch,
    requests: openRequests(shared),
    queues,
    readLive: (id) => readLive(redis, keys, id),
    store,
    secrets: openSecrets(shared),
    publicUrl,
  };
  return { context, keys, redis, blocking: connect("blocking") };
}

/** BullMQ never tries again to open a queue: each try makes a new one. */
async function opened(open: () => Promise<DeliveryQueue>, signal: AbortSignal): Promise<DeliveryQueue | null> {
  while (!signal.aborted) {
    try {
      return await open();
    } catch (thrown) {
      if (asAppError(thrown).code !== "REDIS_UNAVAILABLE") throw thrown;
      await sleep(CONNECT_RETRY_MS, signal).catch(() => undefined);
    }
  }
  return null;
}
