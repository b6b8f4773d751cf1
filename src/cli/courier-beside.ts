import type { Config } from "../config/config.ts";
import { runCourier } from "../courier/main.ts";
import type { CourierMetrics } from "../courier/courier-context.ts";
import type { GatewayContext } from "../gateway/gateway-context.ts";
import type { Logger } from "../telemetry/logger.ts";

/** The courier in the process of a gateway (DRYAPI_COURIER). */
export interface CourierBeside {
  readonly start: (gateway: Pick<GatewayContext, "publicUrl">) => void;
  /** Aborted by the options' signal, and when the courier failed: what runs beside it must end, too. */
  readonly ending: AbortSignal;
  /** Resolves when it has ended, at once when it never ran. @throws what made it fail, so that the program's exit code tells */
  readonly ended: () => Promise<void>;
}

export interface CourierBesideOptions {
  readonly log: Logger;
  /** Null: this process has no courier. */
  readonly metrics: CourierMetrics | null;
  /** Ends the courier. */
  readonly signal: AbortSignal;
}

export function courierBeside(config: Config, { log, metrics, signal }: CourierBesideOptions): CourierBeside {
  const failed = new AbortController();
  const ending = AbortSignal.any([signal, failed.signal]);
  let running = Promise.resolve();
  return {
    ending,
    start: ({ publicUrl }) => {
      if (metrics === null) return;
      running = runCourier(config, { log, metrics, publicUrl, signal: ending }).catch((thrown: unknown) => {
        log.fatal({ err: thrown }, "the courier failed");
        failed.abort();
        throw thrown;
      });
      // Whoever waits for its end hears of it.
      running.catch(() => undefined);
    },
    ended: () => running,
  };
}
