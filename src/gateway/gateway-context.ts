import type { Config } from "../config/config.ts";
import type { Models } from "../models/open-models.ts";
import type { GuardedFetch } from "../net/open-guarded-fetch.ts";
import type { Keys } from "../protocol/keys.ts";
import type { Queues } from "../queue/queue-types.ts";
import type { connectRedis } from "../state/connect-redis.ts";
import type { Clients } from "../state/open-clients.ts";
import type { Idempotency } from "../state/open-idempotency.ts";
import type { RateLimits } from "../state/open-rate-limits.ts";
import type { RequestIndex } from "../state/open-request-index.ts";
import type { RunTimes } from "../state/open-run-times.ts";
import type { Deliveries } from "../state/open-deliveries.ts";
import type { Webhooks } from "../state/open-webhooks.ts";
import type { Secrets } from "../state/open-secrets.ts";
import type { CancelChannel, Emitter, LiveValue, Registry, Requests } from "../state/state-types.ts";
import type { ObjectStore } from "../storage/object-store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { OfferedModels } from "./submit/offered-models.ts";

type Redis = ReturnType<typeof connectRedis>;

/** What every route of the gateway works with: opened once in open-gateway.ts, never changed. State lives in Redis alone. */
export interface GatewayContext {
  readonly config: Config;
  /** Base of links to us, without a trailing slash; known once the server listens. */
  readonly publicUrl: () => string;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly keys: Keys;
  /** Fails fast while Redis is away. */
  readonly redis: Redis;
  /** A connection of its own for subscriptions. */
  readonly connectSubscriber: () => Redis;
  readonly models: Models;
  readonly store: ObjectStore;
  readonly queues: Queues;
  readonly requests: Requests;
  readonly registry: Registry;
  readonly cancels: CancelChannel;
  /** For ends that no worker tells. */
  readonly emitter: Pick<Emitter, "emitEnd">;
  readonly readLive: (id: string) => Promise<LiveValue | null>;
  readonly clients: Clients;
  readonly limits: RateLimits;
  readonly idempotency: Idempotency;
  readonly index: RequestIndex;
  readonly secrets: Secrets;
  readonly runTimes: RunTimes;
  readonly offered: OfferedModels;
  readonly webhooks: Webhooks;
  readonly deliveries: Deliveries;
  /** The only way to a URL that a client supplied. */
  readonly guardedFetch: GuardedFetch;
}

/** The client that a Bearer key named. */
export interface AuthenticatedClient {
  readonly id: string;
  readonly name: string;
  /** Null: the gateway's defaults. */
  readonly ratePerMinute: number | null;
  readonly ratePerDay: number | null;
  /** BullMQ priority of its jobs, 1 is the most urgent. */
  readonly priority: number;
}
