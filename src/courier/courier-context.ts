import type { Config } from "../config/config.ts";
import type { GuardedFetch } from "../net/open-guarded-fetch.ts";
import type { DeliveryQueue } from "../queue/open-delivery-queue.ts";
import type { Deliveries } from "../state/open-deliveries.ts";
import type { Webhooks } from "../state/open-webhooks.ts";
import type { LinkDeps } from "../requests/link-to-file.ts";
import type { StateDeps } from "../requests/read-state.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";

export type CourierMetrics = Pick<
  Metrics<"courier">,
  "webhookAttempts" | "webhookSeconds" | "webhooksWaiting" | "ready" | "redisUp" | "onScrape"
>;

/** What a courier works with, opened once. */
export interface CourierContext extends StateDeps, LinkDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: CourierMetrics;
  readonly queue: DeliveryQueue;
  readonly deliveries: Deliveries;
  readonly webhooks: Webhooks;
  readonly fetch: GuardedFetch;
}
