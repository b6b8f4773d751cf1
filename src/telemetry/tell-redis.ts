import type { HealthCheck } from "./admin-server.ts";
import type { Logger } from "./logger.ts";

/** Logs each change of whether Redis can be used, with the cause: what its commands say is only that they failed. */
export function tellRedis(log: Logger): (check: HealthCheck) => void {
  return ({ ok, detail }) => {
    if (ok) log.info({ redis: detail }, "Redis can be written");
    else log.error({ redis: detail }, "Redis cannot be written; tried again");
  };
}
