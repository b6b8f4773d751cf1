import type { Config } from "../config/config.ts";
import { SHIPPED_MODELS_DIR } from "../config/package-info.ts";
import { storeOptions } from "../config/store-options.ts";
import { openModels } from "../models/open-models.ts";
import { openGuardedFetch } from "../net/open-guarded-fetch.ts";
import { AppError } from "../protocol/error.ts";
import { keysFor } from "../protocol/keys.ts";
import { openQueues } from "../queue/open-queues.ts";
import { connectRedis } from "../state/connect-redis.ts";
import { openCancelChannel } from "../state/open-cancel-channel.ts";
import { openClients } from "../state/open-clients.ts";
import { openEmitter } from "../state/open-emitter.ts";
import { openIdempotency } from "../state/open-idempotency.ts";
import { openRateLimits } from "../state/open-rate-limits.ts";
import { openRegistry } from "../state/open-registry.ts";
import { openRequestIndex } from "../state/open-request-index.ts";
import { openRequests } from "../state/open-requests.ts";
import { openRunTimes } from "../state/open-run-times.ts";
import { openSecrets } from "../state/open-secrets.ts";
import { openDeliveries } from "../state/open-deliveries.ts";
import { openWebhooks } from "../state/open-webhooks.ts";
import { readLive } from "../state/read-live.ts";
import { openObjectStore } from "../storage/object-store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { openOfferedModels } from "./submit/offered-models.ts";

export interface OpenGatewayOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly publicUrl: () => string;
  /** What is opened is closed through it, in reverse. */
  readonly stack: AsyncDisposableStack;
}

/** Opens all that the routes work with. @throws AppError CONFIG_INVALID | STORAGE_* */
export async function openGateway(options: OpenGatewayOptions): Promise<GatewayContext> {
  const { config, log, metrics, stack } = options;
  const url = config.redisUrl;
  if (url === null) throw new AppError("CONFIG_INVALID", "REDIS_URL is not set: name the Redis that holds the queues, or use `dryapi up`");
  const keys = keysFor(config.namespace);
  const connect = (role: "producer" | "adder" | "subscriber"): ReturnType<typeof connectRedis> => {
    const redis = connectRedis({ url, role, onError: (error) => log.debug({ err: error, role }, "Redis connection") });
    stack.defer(() => redis.disconnect());
    return redis;
  };
  const models = await openModels({
    shippedDir: SHIPPED_MODELS_DIR,
    modelDirs: config.modelsDirs,
    stateDir: config.stateDir,
    onNote: (note) => log.warn({ note }, "models"),
  });
  const store = stack.use(await openObjectStore(config.storeUrl, storeOptions(config)));
  const redis = connect("producer");
  const shared = { redis, keys };
  const { lockMs, stalledIntervalMs, maxStalled, retentionMs, workerName } = config;
  const queues = stack.use(openQueues({ redis: connect("adder"), keys, lockMs, stalledIntervalMs, maxStalled, retentionMs, workerName }));
  const registry = openRegistry(shared);
  return {
    config,
    publicUrl: options.publicUrl,
    log,
    metrics,
    keys,
    redis,
    connectSubscriber: () => connect("subscriber"),
    models,
    store,
    queues,
    requests: openRequests({ ...shared, retentionMs }),
    registry,
    cancels: openCancelChannel({ ...shared, subscriber: connect("subscriber") }),
    emitter: openEmitter({ ...shared, ttlMs: retentionMs }),
    readLive: (id) => readLive(redis, keys, id),
    clients: openClients(shared),
    limits: openRateLimits(shared),
    idempotency: openIdempotency(shared),
    index: openRequestIndex(shared),
    secrets: openSecrets(shared),
    runTimes: openRunTimes(shared),
    webhooks: openWebhooks({ ...shared, retentionMs }),
    deliveries: openDeliveries({ ...shared, retentionMs }),
    guardedFetch: stack.use(openGuardedFetch({ egressAllow: config.egressAllow, allowHttp: config.allowHttpWebhooks })),
    offered: openOfferedModels({ ...shared, config, models, registry }),
  };
}
