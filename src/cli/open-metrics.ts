import type { Config } from "../config/config.ts";
import { packageVersion } from "../config/package-info.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Program } from "../telemetry/metric-row.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";

/** The metrics of a process that runs these programs. */
export function openMetrics<const P extends Program>(config: Config, log: Logger, programs: readonly P[]): Metrics<P> {
  return createMetrics({
    programs,
    version: packageVersion(),
    name: config.workerName,
    onError: (err) => log.warn({ err }, "metrics"),
  });
}
