import type { Config } from "../config/config.ts";
import type { Models } from "../models/open-models.ts";
import type { GuardedFetch } from "../net/open-guarded-fetch.ts";
import type { SharedState } from "../requests/open-state.ts";
import type { connectRedis } from "../state/connect-redis.ts";
import type { Clients } from "../state/open-clients.ts";
import type { Idempotency } from "../state/open-idempotency.ts";
import type { RateLimits } from "../state/open-rate-limits.ts";
import type { CancelChannel } from "../state/state-types.ts";
import type { ObjectStore } from "../storage/object-store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { OfferedModels } from "./submit/offered-models.ts";

/** What every route of the gateway works with: opened once in open-gateway.ts, never changed. State lives in Redis alone. */
export interface GatewayContext extends Omit<SharedState, "connect"> {
  readonly config: Config;
  /** Base of links to us, without a trailing slash; known once the server listens. */
  readonly publicUrl: () => string;
  readonly log: Logger;
  readonly metrics: Metrics<"gateway">;
  /** A connection of its own for subscriptions. */
  readonly connectSubscriber: () => ReturnType<typeof connectRedis>;
  readonly models: Models;
  readonly store: ObjectStore;
  readonly cancels: CancelChannel;
  readonly clients: Clients;
  readonly limits: RateLimits;
  readonly idempotency: Idempotency;
  readonly offered: OfferedModels;
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
