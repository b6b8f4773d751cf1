import type { Config } from "../config/config.ts";
import { runCourier } from "../courier/main.ts";
import type { CourierMetrics } from "../courier/courier-context.ts";
import type { GatewayContext } from "../gateway/gateway-context.ts";
import type { Logger } from "../telemetry/logger.ts";

/** The courier in the process of a gateway (DRYAPI_COURIER). */
export interface CourierBeside {
  readonly start: (gateway: Pick<GatewayContext, "publicUrl">) => void;
  /** Resolves when it has ended, at once when it never ran. @throws what made it fail, so that the program's exit code tells */
  readonly ended: () => Promise<void>;
}

export interface CourierBesideOptions {
  readonly log: Logger;
  /** Null: this process has no courier. */
  readonly metrics: CourierMetrics | null;
  readonly stop: AbortController;
}

/** `stop` ends the courier; one that fails ends whatever else waits for `stop`. */
export function courierBeside(config: Config, { log, metrics, stop }: CourierBesideOptions): CourierBeside {
  let running = Promise.resolve();
  return {
    start: ({ publicUrl }) => {
      if (metrics === null) return;
      running = runCourier(config, { log, metrics, publicUrl, signal: stop.signal }).catch((thrown: unknown) => {
        log.fatal({ err: thrown }, "the courier failed");
        stop.abort();
        throw thrown;
      });
      // Whoever waits for its end hears of it.
      running.catch(() => undefined);
    },
    ended: () => running,
  };
}
