import { runWorker, type WorkerOptions } from "../worker/main.ts";
import { openMetrics } from "./open-metrics.ts";
import { runService } from "./run-service.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** Beyond the grace of running batches: jobs are handed back, words said to Redis, connections closed. */
export const WORKER_END_MS = 20_000;

/** `dryapi worker`: the daemon, until it is signalled. Logs go to stdout. */
export async function runWorkerCommand(env: Env, options: Pick<WorkerOptions, "runnerEntry"> = {}): Promise<number> {
  return runService(
    {
      env,
      logger: ({ logFormat: format, workerName }) => ({ format, base: { worker: workerName } }),
      endMs: ({ shutdownGraceMs }) => shutdownGraceMs + WORKER_END_MS,
    },
    async ({ config, log, signals, unit, ready }) => {
      using metrics = openMetrics(config, log, ["worker"]);
      return await runWorker(config, { ...options, log, metrics, signals, unit, onRunning: ready });
    },
  );
}
