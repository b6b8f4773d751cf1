import type { Config } from "../config/config.ts";
import { endedWithin } from "../lib/within.ts";
import { asAppError } from "../protocol/error.ts";
import { watchQueues } from "../queue/watch-queues.ts";
import { startAdminServer } from "../telemetry/admin-server.ts";
import type { Logger } from "../telemetry/logger.ts";
import { exportHealth } from "../telemetry/export-health.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { tellRedis } from "../telemetry/tell-redis.ts";
import { openSdNotify } from "../telemetry/sd-notify.ts";
import { openServiceUnit } from "../telemetry/service-unit.ts";
import { Daemon } from "./daemon.ts";
import { detectDevices } from "./devices/devices.ts";
import { exportGauges } from "./export-gauges.ts";
import { anyProved, beginProofs } from "./devices/first-proofs.ts";
import { announce, keepHouse, rescan, tellUnserved } from "./housekeeping.ts";
import { openContext } from "./open-context.ts";
import { SpoolGuard } from "./spool/spool-guard.ts";
import { liveness, readiness } from "./worker-health.ts";
import { wrongPlaces } from "./wrong-places.ts";

/** Longest wait for words to Redis that nobody's job depends on. */
const GOODBYE_MS = 2_000;

export interface WorkerOptions {
  readonly log: Logger;
  readonly metrics: Metrics<"worker">;
  /** Called once jobs are being claimed; with the slugs of the models whose jobs are. */
  readonly onReady?: (served: readonly string[]) => void;
  /** Entry file of runners, for tests that set the pace of their steps; see RunnerOptions. */
  readonly runnerEntry?: string;
}

/**
 * The daemon from start to end. First SIGTERM or SIGINT: drain within the grace; second: now. SIGHUP: look at the models on disk now;
 * from a terminal that was closed it ends the daemon. Returns the exit code.
 * @throws AppError what keeps it from starting: CONFIG_INVALID, DEVICE_UNAVAILABLE, STORAGE_*, SPOOL_FULL, REDIS_UNAVAILABLE
 */
export async function runWorker(config: Config, options: WorkerOptions): Promise<number> {
  const { log, metrics } = options;
  using signals = listenForSignals(log);
  using unit = openServiceUnit(openSdNotify(process.env, { onError: (err) => log.warn({ err }, "systemd was not notified") }));
  await using stack = new AsyncDisposableStack();
  for (const problem of await wrongPlaces(config)) log.warn({ problem }, "a setting leads nowhere");
  unit.starting("looking for devices");
  const used = await detectDevices(config.device, { only: config.devices, onNote: (note, level) => log[level]({ note }, "devices") });
  const proofs = beginProofs(used, { log, stack, signal: signals.ending, entry: options.runnerEntry });
  unit.starting("opening spool, store and Redis");
  const { context, keys, blocking, health } = await openContext({ ...options, config, stack });
  await health.admit({ signal: signals.ending, onWait: tellRedis(log) });
  await Promise.race([anyProved(proofs), signals.first]);
  const daemon = new Daemon(context, used, { onSpoolFull: () => spool.metFull(), proofs });
  const spool = new SpoolGuard({ context, onFull: (full) => (full ? daemon.pause("spool") : daemon.resume("spool")) });
  exportGauges(metrics, daemon);
  exportHealth(metrics, "worker", { redis: () => health.last, ready: (redis) => readiness(daemon, redis) });
  const admin = stack.use(
    await startAdminServer({
      host: config.adminHost,
      port: config.adminPort,
      metrics,
      health: () => liveness(daemon),
      ready: async () => readiness(daemon, await health.check()),
      onError: (err) => log.warn({ err }, "admin listener"),
    }),
  );
  const stop = new AbortController();
  const running = [
    daemon.run(stop.signal),
    keepHouse(context, { daemon, spool }, stop.signal),
    watchQueues({
      redis: blocking,
      keys,
      models: () => daemon.served,
      onWake: (model, isAdded) => daemon.woken(model, isAdded),
      signal: stop.signal,
    }),
    health.watch(tellRedis(log), stop.signal),
  ].map((service) => service.catch((thrown: unknown) => failed(thrown, log, signals)));
  signals.onReload(() => void rescan(context, daemon).catch((err: unknown) => log.warn({ err }, "the look for new models failed")));
  unit.starting("taking up what an earlier daemon left");
  const recovered = daemon.recover(signals.ending).catch((thrown: unknown) => {
    log.error({ err: asAppError(thrown) }, "the spool of an earlier daemon could not be read; the locks of its jobs will expire");
  });
  await Promise.race([Promise.allSettled([recovered, ...proofs.values()]), signals.first]);
  if (!signals.ending.aborted) {
    tellUnserved(context);
    log.info({ devices: used, models: daemon.served, admin: admin.url, store: context.store.label }, "worker ready");
    const working = used.flatMap(({ id }) => (daemon.care.isInService(id) ? [id] : []));
    await unit.ready(`serving ${daemon.served.length} models on ${working.join(", ")}`, () => liveness(daemon).ok);
    options.onReady?.(daemon.served);
  }

  await signals.first;
  log.info({ held: daemon.keeper.jobs.length, graceMs: config.shutdownGraceMs }, "draining: no more jobs are claimed");
  metrics.draining.set(1);
  await unit.stopping(`draining: ${daemon.keeper.jobs.length} jobs have up to ${Math.ceil(config.shutdownGraceMs / 1_000)} s`);
  const announced = announce(context, daemon).catch(() => undefined);
  await daemon.drain(config.shutdownGraceMs, signals.second);
  await endedWithin(GOODBYE_MS, announced);
  stop.abort();
  blocking.disconnect();
  // What still waits for a Redis that is away has nothing to add; the entry that says we are here expires.
  await endedWithin(GOODBYE_MS, Promise.allSettled([...running, context.registry.withdraw(config.workerName)]));
  log.info("worker ended");
  return signals.crashed ? 1 : 0;
}

interface Signals extends Disposable {
  readonly first: Promise<void>;
  /** Aborts with the first. */
  readonly ending: AbortSignal;
  readonly second: AbortSignal;
  /** What SIGHUP does from now on; before, it does nothing. */
  onReload(reload: () => void): void;
  /** Ends the daemon because one of its services cannot go on. */
  fail(): void;
  readonly crashed: boolean;
}

function listenForSignals(log: Logger): Signals {
  const first = Promise.withResolvers<void>();
  const ending = new AbortController();
  const second = new AbortController();
  const end = (): void => {
    ending.abort();
    first.resolve();
  };
  let count = 0;
  let crashed = false;
  let reload = (): void => undefined;
  const reloadNow = (signal: NodeJS.Signals): void => {
    log.info({ signal }, "looking for new, repaired and removed models");
    reload();
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    count += 1;
    log.info({ signal, count }, count === 1 ? "signal: ending after running batches" : "second signal: ending now");
    if (count === 1) end();
    else second.abort();
  };
  // Without a terminal nobody hung up: an operator asks (`systemctl reload`).
  const onHangUp = process.stdin.isTTY ? onSignal : reloadNow;
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  process.on("SIGHUP", onHangUp);
  return {
    first: first.promise,
    ending: ending.signal,
    second: second.signal,
    onReload: (wanted) => (reload = wanted),
    fail: () => {
      crashed = true;
      end();
    },
    get crashed() {
      return crashed;
    },
    [Symbol.dispose]: () => {
      process.off("SIGTERM", onSignal);
      process.off("SIGINT", onSignal);
      process.off("SIGHUP", onHangUp);
    },
  };
}

/** A service of the daemon ended with an error: its jobs go back, and whoever supervises us starts us anew. */
function failed(thrown: unknown, log: Logger, signals: Signals): void {
  log.fatal({ err: asAppError(thrown) }, "a service of the worker failed; it shuts down");
  signals.fail();
}
