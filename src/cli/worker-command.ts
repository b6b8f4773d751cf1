import { readConfig, secretValues, unknownSettings } from "../config/config.ts";
import { createLogger } from "../telemetry/logger.ts";
import { runWorker, type WorkerOptions } from "../worker/main.ts";
import { openMetrics } from "./open-metrics.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** For the last log lines. */
const LINGER_MS = 500;

/** `dryapi worker`: the daemon, until it is signalled. Logs go to stdout. */
export async function runWorkerCommand(env: Env, options: Pick<WorkerOptions, "runnerEntry"> = {}): Promise<number> {
  const config = readConfig(env);
  const log = createLogger({
    level: config.logLevel,
    format: config.logFormat,
    base: { worker: config.workerName },
    secrets: secretValues(env),
  });
  for (const name of unknownSettings(env)) log.warn({ setting: name }, "is set but is no setting; check its spelling with `dryapi config`");
  using metrics = openMetrics(config, log, ["worker"]);
  const code = await runWorker(config, { ...options, log, metrics });
  // Commands that wait for a Redis that is away keep their timers for ten seconds: they have nothing to add any more.
  setTimeout(() => process.exit(code), LINGER_MS).unref();
  return code;
}
