import type { Config } from "../config/config.ts";
import { runCourier } from "../courier/main.ts";
import type { GatewayContext } from "../gateway/gateway-context.ts";
import type { Logger } from "../telemetry/logger.ts";

/** The courier in the process of a gateway (DRYAPI_COURIER). */
export interface CourierBeside {
  readonly start: (gateway: Pick<GatewayContext, "metrics" | "publicUrl">) => void;
  /** Aborted by the options' signal, and when the courier failed: what runs beside it must end, too. */
  readonly ending: AbortSignal;
  /** Resolves when it has ended, at once when it never ran. @throws what made it fail, so that the program's exit code tells */
  readonly ended: () => Promise<void>;
}

/** `signal` ends the courier. */
export function courierBeside(config: Config, { log, signal }: { readonly log: Logger; readonly signal: AbortSignal }): CourierBeside {
  const failed = new AbortController();
  const ending = AbortSignal.any([signal, failed.signal]);
  let running = Promise.resolve();
  return {
    ending,
    start: ({ metrics, publicUrl }) => {
      if (!config.courier) return;
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
