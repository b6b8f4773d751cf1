import type { HealthCheck, HealthReport } from "./admin-server.ts";
import type { Program } from "./metric-row.ts";
import type { Metrics } from "./metrics.ts";

export interface ExportedHealth {
  /** As last tried; null before the first try. */
  readonly redis: () => HealthCheck | null;
  /** What /readyz says of the program where Redis is as given. */
  readonly ready: (redis: HealthCheck) => HealthReport | Promise<HealthReport>;
}

/** Sets `dryapi_redis_up` and `dryapi_ready` at each scrape, from what is known: a scrape asks nothing of Redis. */
export function exportHealth(
  metrics: Pick<Metrics<Program>, "ready" | "redisUp" | "onScrape">,
  program: Program,
  { redis, ready }: ExportedHealth,
): void {
  metrics.onScrape(async () => {
    const seen = redis() ?? { ok: false, detail: "not tried yet" };
    metrics.redisUp.set(seen.ok ? 1 : 0);
    metrics.ready.set({ program }, (await ready(seen)).ok ? 1 : 0);
  });
}
