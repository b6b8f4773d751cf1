import type { Config } from "../config/config.ts";
import { storeOptions } from "../config/store-options.ts";
import { sleep } from "../lib/backoff.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { openGuardedFetch } from "../net/open-guarded-fetch.ts";
import { asAppError } from "../protocol/error.ts";
import type { Keys } from "../protocol/keys.ts";
import { openDeliveryQueue, type DeliveryQueue } from "../queue/open-delivery-queue.ts";
import { openState, type SharedState } from "../requests/open-state.ts";
import { openObjectStore } from "../storage/object-store.ts";
import type { HealthCheck, HealthReport } from "../telemetry/admin-server.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { CourierContext, CourierMetrics } from "./courier-context.ts";

export interface CourierOptions {
  readonly log: Logger;
  readonly metrics: CourierMetrics;
  /** Base of result links, without a trailing slash. */
  readonly publicUrl: () => string;
  /** Ends the courier: deliveries under way get a few seconds. */
  readonly signal: AbortSignal;
  /** Told each change of whether Redis can be used; absent: a gateway in this process tells it. */
  readonly onRedis?: (check: HealthCheck) => void;
  /** As `GuardedFetchOptions`. */
  readonly ca?: readonly string[];
  /** Called once deliveries are being claimed, with what tells whether they still can be. */
  readonly onReady?: (check: () => Promise<HealthReport>) => void;
}

const CONNECT_RETRY_MS = 500;

export interface CourierParts {
  readonly context: CourierContext;
  readonly keys: Keys;
  readonly redis: SharedState["redis"];
  readonly blocking: SharedState["redis"];
  readonly health: SharedState["health"];
}

/** Opens what a courier works with. Null when the signal aborted while Redis was waited for. */
export async function openCourier(config: Config, options: CourierOptions, stack: AsyncDisposableStack): Promise<CourierParts | null> {
  const { log, metrics, publicUrl, signal, ca, onRedis } = options;
  const { egressAllow, allowHttpWebhooks: allowHttp, lockMs, stalledIntervalMs, retentionMs, workerName } = config;
  const fetch = stack.use(openGuardedFetch({ egressAllow, allowHttp, ...(ca !== undefined && { ca }) }));
  const onError = (err: Error, role: string): void => log.debug({ err, role }, "Redis connection");
  const state = openState({ settings: config, role: "recorder", queueRole: "worker", stack, onError });
  const { redis, keys, health } = state;
  const store = stack.use(await openObjectStore(config.storeUrl, storeOptions(config)));
  await health.admit({ signal, onWait: (check) => onRedis?.(check) });
  const delivering = { redis: state.connect("worker"), keys, retentionMs, lockMs, stalledIntervalMs, workerName };
  const queue = await opened(() => openDeliveryQueue(delivering), signal);
  if (queue === null) return null;
  const context: CourierContext = {
    ...state,
    config,
    log,
    metrics,
    queue: stack.use(queue),
    fetch,
    store,
    publicUrl,
  };
  return { context, keys, redis, blocking: state.connect("blocking"), health };
}

/** BullMQ never tries again to open a queue: each try makes a new one. */
async function opened(open: () => Promise<DeliveryQueue>, signal: AbortSignal): Promise<DeliveryQueue | null> {
  while (!signal.aborted) {
    try {
      return (await Promise.race([open(), untilAborted(signal)])) ?? null;
    } catch (thrown) {
      if (asAppError(thrown).code !== "REDIS_UNAVAILABLE") throw thrown;
      await sleep(CONNECT_RETRY_MS, signal).catch(() => undefined);
    }
  }
  return null;
}
