import type { Config } from "../config/config.ts";
import { packageVersion } from "../config/package-info.ts";
import { BoundedStack } from "../lib/bounded-stack.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { endedWithin } from "../lib/within.ts";
import { asAppError } from "../protocol/error.ts";
import { watchQueues } from "../queue/watch-queues.ts";
import { startAdminServer, type AdminServer, type HealthReport } from "../telemetry/admin-server.ts";
import type { Logger } from "../telemetry/logger.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";
import { tellRedis } from "../telemetry/tell-redis.ts";
import { openSdNotify, type SdNotify } from "../telemetry/sd-notify.ts";
import { openAnnouncer } from "./announcer.ts";
import { Daemon } from "./daemon.ts";
import { detectDevices } from "./devices/devices.ts";
import { keepHouse, rescan, tellUnserved } from "./housekeeping.ts";
import { openContext } from "./open-context.ts";
import { SpoolGuard } from "./spool/spool-guard.ts";
import { pauseWithoutStore } from "./store-guard.ts";
import { liveness, readiness, STARTING } from "./worker-health.ts";

/** Longest wait for words to Redis that nobody's job depends on. */
const GOODBYE_MS = 2_000;
/** For connections and the spool's lock. */
const CLOSE_MS = 1_000;

/** How the program hears of the signals to it. */
export interface WorkerSignals {
  /** Aborted by the first: drain within the grace. */
  readonly first: AbortSignal;
  /** Aborted by the second: end now. */
  readonly second: AbortSignal;
  /** SIGHUP: look at the models on disk now. */
  onReload(reload: () => void): void;
}

export interface WorkerOptions {
  readonly log: Logger;
  readonly signals: WorkerSignals;
  /** Called when jobs may be held: from now on the end takes the grace of a drain. */
  readonly onRunning?: () => void;
  /** Called once jobs are being claimed; with the slugs of the models whose jobs are. */
  readonly onReady?: (served: readonly string[]) => void;
  /** Entry file of runners, for tests that set the pace of their steps; see RunnerOptions. */
  readonly runnerEntry?: string;
}

/**
 * The daemon from start to end, which its signals ask for. Returns the exit code.
 * @throws AppError what keeps it from starting: CONFIG_INVALID, DEVICE_UNAVAILABLE, STORAGE_*, SPOOL_FULL, REDIS_UNAVAILABLE
 */
export async function runWorker(config: Config, options: WorkerOptions): Promise<number> {
  const { log, signals } = options;
  const failure = new AbortController();
  const ending = AbortSignal.any([signals.first, failure.signal]);
  let reload = (): void => undefined;
  signals.onReload(() => {
    log.info("looking for new, repaired and removed models");
    reload();
  });
  await using stack = new BoundedStack({ ms: CLOSE_MS, onProblem: (err) => log.warn({ err }, "closing") });
  const metrics = stack.use(
    createMetrics({ version: packageVersion(), worker: config.workerName, onError: (err) => log.warn({ err }, "metrics") }),
  );
  const probes: Probes = { health: () => ({ ok: true, checks: {} }), ready: async () => STARTING };
  const admin = stack.use(await listen(config, { log, metrics, probes }));
  const devices = await detectDevices(config.device, { onNote: (note) => log.info({ note }, "devices") });
  const allowed = config.devices;
  const used = allowed === null ? devices : devices.filter((device) => device.kind === "cpu" || allowed.includes(device.index));
  const { context, keys, blocking, health, storeHealth } = await openContext({ ...options, config, metrics, stack });
  await Promise.all([health.admit({ signal: ending, onWait: tellRedis(log) }), storeHealth.admit(ending)]);
  const systemd = openSdNotify(process.env, { onError: (err) => log.warn({ err }, "systemd was not notified") });
  const daemon = new Daemon(context, used, { onSpoolFull: () => spool.metFull() });
  const spool = new SpoolGuard({ context, onFull: (full) => (full ? daemon.pause("spool") : daemon.resume("spool")) });
  const announcer = await openAnnouncer(context, daemon);
  await announcer.start({ signal: ending, onWait: tellWait(log, systemd) });
  if (ending.aborted) return 0;
  metrics.onScrape(() => setGauges(metrics, daemon));
  probes.health = () => liveness(daemon);
  probes.ready = async () => readiness(daemon, { redis: await health.check(), store: storeHealth.last });
  const stop = new AbortController();
  options.onRunning?.();
  const running = [
    pauseWithoutStore(storeHealth, { daemon, log }, stop.signal),
    daemon.run(stop.signal),
    keepHouse(context, { daemon, spool, announcer }, stop.signal),
    watchQueues({
      redis: blocking,
      keys,
      models: () => daemon.served,
      onWake: (model, isAdded) => daemon.woken(model, isAdded),
      signal: stop.signal,
    }),
    feedWatchdog(systemd, daemon, stop.signal),
    health.watch(tellRedis(log), stop.signal),
  ].map((service) => service.catch((thrown: unknown) => failed(thrown, log, failure)));
  reload = () => void rescan(context, daemon).catch((err: unknown) => log.warn({ err }, "the look for new models failed"));
  const recovered = daemon.recover(ending).catch((thrown: unknown) => {
    log.error({ err: asAppError(thrown) }, "the spool of an earlier daemon could not be read; the locks of its jobs will expire");
  });
  await Promise.race([recovered, untilAborted(ending)]);
  if (!ending.aborted) {
    tellUnserved(context);
    log.info({ devices: used, models: daemon.served, admin: admin.url, store: context.store.label }, "worker ready");
    await systemd.ready(`serving ${daemon.served.length} models on ${used.map(({ id }) => id).join(", ")}`);
    options.onReady?.(daemon.served);
  }

  await untilAborted(ending);
  log.info({ held: daemon.keeper.jobs.length, graceMs: config.shutdownGraceMs }, "draining: no more jobs are claimed");
  metrics.draining.set(1);
  await systemd.stopping("draining");
  const announced = announcer.sayDraining().catch(() => undefined);
  await daemon.drain(config.shutdownGraceMs, signals.second);
  await endedWithin(GOODBYE_MS, announced);
  stop.abort();
  blocking.disconnect();
  // What still waits for a Redis that is away has nothing to add; the entry that says we are here expires.
  await endedWithin(GOODBYE_MS, Promise.allSettled([...running, announcer.withdraw()]));
  log.info("worker ended");
  return failure.signal.aborted ? 1 : 0;
}

/** A service of the daemon ended with an error: its jobs go back, and whoever supervises us starts us anew. */
function failed(thrown: unknown, log: Logger, failure: AbortController): void {
  log.fatal({ err: asAppError(thrown) }, "a service of the worker failed; it shuts down");
  failure.abort();
}

function tellWait(log: Logger, systemd: SdNotify): (message: string) => void {
  return (message) => {
    log.warn({ message }, "waiting for the worker's name");
    void systemd.status(message);
  };
}

interface Probes {
  health: () => HealthReport;
  ready: () => Promise<HealthReport>;
}

/** Up before anything is waited for: whoever supervises us asks it, and an address that is taken is told at once. */
async function listen(
  { adminHost: host, adminPort: port }: Config,
  { log, metrics, probes }: { readonly log: Logger; readonly metrics: Metrics; readonly probes: Probes },
): Promise<AdminServer> {
  return startAdminServer({
    host,
    port,
    metrics,
    health: () => probes.health(),
    ready: () => probes.ready(),
    onError: (err) => log.warn({ err }, "admin listener"),
  });
}

async function feedWatchdog(systemd: SdNotify, daemon: Daemon, signal: AbortSignal): Promise<void> {
  const intervalMs = systemd.watchdogIntervalMs;
  if (intervalMs === null) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setInterval(() => {
    if (liveness(daemon).ok) void systemd.watchdog();
  }, intervalMs);
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  clearInterval(timer);
}

function setGauges(metrics: Metrics, daemon: Daemon): void {
  const states = { starting: daemon.pool.loading, ready: 0, busy: 0, draining: 0 };
  for (const { process: child } of daemon.pool.up) {
    if (child.state === "ready" || child.state === "busy" || child.state === "draining") states[child.state] += 1;
  }
  for (const [state, count] of Object.entries(states)) metrics.runners.set({ state }, count);
  for (const device of daemon.loop.state.devices)
    metrics.deviceQuarantined.set({ device: device.id }, device.quarantinedUntil === null ? 0 : 1);
  metrics.uploadsWaiting.set(daemon.carrier.storing);
}
