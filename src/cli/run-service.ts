import { readConfig, secretValues, unknownSettings, type Config } from "../config/config.ts";
import { endedWithin } from "../lib/within.ts";
import { asAppError } from "../protocol/error.ts";
import { createLogger, type Logger, type LoggerOptions } from "../telemetry/logger.ts";
import { openSdNotify } from "../telemetry/sd-notify.ts";
import { openServiceUnit, type ServiceUnit } from "../telemetry/service-unit.ts";
import { EXIT } from "./exit-codes.ts";
import { processSignals, type Asked } from "./process-signals.ts";

/** What a program that runs until it is signalled works with. */
export interface Service {
  readonly config: Config;
  readonly log: Logger;
  readonly signals: Asked;
  /** What systemd is told; outside it nothing. It hears of the end by itself. */
  readonly unit: ServiceUnit;
  /** From now on there may be work under way, and the end takes the program's own grace. */
  readonly ready: () => void;
}

export interface ServiceOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How its log is written. */
  readonly logger: (config: Config) => Pick<LoggerOptions, "base" | "format" | "destination">;
  /** How long the end may take, milliseconds from the first signal. What takes longer is left to the process's end. */
  readonly endMs: (config: Config) => number;
}

/** A start that is not over when it is called off has claimed nothing: it need not be waited for. */
const START_END_MS = 5_000;
/** After the second signal jobs are handed back, and that is all. */
const NOW_MS = 15_000;
/** For the last log lines. */
const FLUSH_MS = 1_000;

/**
 * The shell around every program that runs until it is signalled: settings, log, signals, and an end within a bound. Whoever calls it ends
 * the process with what it returns or throws, since open connections and timers must not keep up what has ended.
 */
export async function runService(options: ServiceOptions, work: (service: Service) => Promise<number>): Promise<number> {
  const config = readConfig(options.env);
  const log = createLogger({ level: config.logLevel, secrets: secretValues(options.env), ...options.logger(config) });
  for (const name of unknownSettings(options.env))
    log.warn({ setting: name }, "is set but is no setting; check its spelling with `dryapi config`");
  using signals = processSignals().ask({ patience: 2 });
  using unit = openServiceUnit(openSdNotify(options.env, { onError: (err) => log.warn({ err }, "systemd was not notified") }));
  let isReady = false;
  const endMs = (): number => (isReady ? options.endMs(config) : START_END_MS);
  const over = Promise.withResolvers<number>();
  // Its timers go with the process: whatever ends first decides.
  const late = (ms: number): void => {
    setTimeout(() => over.resolve(giveUp(log, { isReady, ms })), ms);
  };
  signals.first.addEventListener("abort", () => {
    log.info({ reason: asAppError(signals.first.reason).message }, isReady ? "signal: ending in order" : "signal: the start is called off");
    void unit.stopping(isReady ? "ending in order" : "the start is called off");
    late(endMs());
  });
  signals.second.addEventListener("abort", () => {
    log.info("second signal: ending now");
    late(NOW_MS);
  });
  try {
    return await Promise.race([work({ config, log, signals, unit, ready: () => (isReady = true) }), over.promise]);
  } finally {
    await endedWithin(FLUSH_MS, new Promise<void>((resolve) => log.flush(() => resolve())));
  }
}

function giveUp(log: Logger, { isReady, ms }: { readonly isReady: boolean; readonly ms: number }): number {
  if (!isReady) {
    log.warn({ ms }, "the start had not ended when it was called off; the process leaves it");
    return EXIT.ok;
  }
  log.fatal({ ms }, "the program had not ended in order in time; the process leaves it, and locks of its jobs expire");
  return EXIT.failed;
}
