import type { Config } from "../config/config.ts";
import { BoundedStack } from "../lib/bounded-stack.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { endedWithin } from "../lib/within.ts";
import { asAppError } from "../protocol/error.ts";
import { watchQueues } from "../queue/watch-queues.ts";
import { startAdminServer, type AdminServer, type HealthReport } from "../telemetry/admin-server.ts";
import type { Logger } from "../telemetry/logger.ts";
import { exportHealth } from "../telemetry/export-health.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { tellRedis } from "../telemetry/tell-redis.ts";
import type { ServiceUnit } from "../telemetry/service-unit.ts";
import { openAnnouncer, type Announcer } from "./announcer.ts";
import { requireRuntime } from "./check-runtime.ts";
import { Daemon } from "./daemon.ts";
import { detectDevices } from "./devices/devices.ts";
import { anyProved, beginProofs } from "./devices/first-proofs.ts";
import { exportGauges } from "./export-gauges.ts";
import { keepHouse, rescan, tellUnserved } from "./housekeeping.ts";
import { openContext } from "./open-context.ts";
import { LearnedPeaks } from "./scheduling/learned-peaks.ts";
import { SpoolGuard } from "./spool/spool-guard.ts";
import { pauseWithoutStore } from "./store-guard.ts";
import { liveness, readiness, STARTING } from "./worker-health.ts";
import { wrongPlaces } from "./wrong-places.ts";

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
  readonly metrics: Metrics<"worker">;
  readonly signals: WorkerSignals;
  /** What systemd is told of start and drain. */
  readonly unit: ServiceUnit;
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
  const { log, metrics, signals, unit } = options;
  const failure = new AbortController();
  const ending = AbortSignal.any([signals.first, failure.signal]);
  let reload = (): void => undefined;
  signals.onReload(() => {
    log.info("looking for new, repaired and removed models");
    reload();
  });
  await using stack = new BoundedStack({ ms: CLOSE_MS, onProblem: (err) => log.warn({ err }, "closing") });
  const probes: Probes = { health: () => ({ ok: true, checks: {} }), ready: async () => STARTING };
  const admin = stack.use(await listen(config, { log, metrics, probes }));
  await requireRuntime(config, (problem) => log.warn({ problem }, "onnxruntime"));
  for (const problem of await wrongPlaces(config)) log.warn({ problem }, "a setting leads nowhere");
  unit.starting("looking for devices");
  const used = await detectDevices(config.device, { only: config.devices, onNote: (note, level) => log[level]({ note }, "devices") });
  const proofs = beginProofs(used, { log, stack, signal: ending, entry: options.runnerEntry });
  unit.starting("opening spool, store and Redis");
  const { context, keys, blocking, health, storeHealth } = await openContext({ ...options, config, stack, devices: used });
  await Promise.all([health.admit({ signal: ending, onWait: tellRedis(log) }), storeHealth.admit(ending)]);
  await Promise.race([anyProved(proofs), untilAborted(ending)]);
  const learned = await LearnedPeaks.open(config.stateDir, used);
  const daemon = new Daemon(context, used, { onSpoolFull: () => spool.metFull(), proofs, peaks: learned.peaks });
  const spool = new SpoolGuard({ context, onFull: (full) => (full ? daemon.pause("spool") : daemon.resume("spool")) });
  const announcer = await openAnnouncer(context, daemon);
  await announcer.start({ signal: ending, onWait: tellWait(log, unit) });
  if (ending.aborted) return 0;
  exportGauges(metrics, daemon, context);
  exportHealth(metrics, "worker", {
    redis: () => health.last,
    ready: (redis) => readiness(daemon, { redis, store: storeHealth.last }),
  });
  probes.health = () => liveness(daemon);
  probes.ready = async () => readiness(daemon, { redis: await health.check(), store: storeHealth.last });
  const stop = new AbortController();
  options.onRunning?.();
  const running = [
    pauseWithoutStore(storeHealth, { daemon, log }, stop.signal),
    daemon.run(stop.signal),
    keepHouse(context, { daemon, spool, announcer, learned }, stop.signal),
    watchQueues({
      redis: blocking,
      keys,
      models: () => daemon.served,
      onWake: (model, isAdded) => daemon.woken(model, isAdded),
      signal: stop.signal,
    }),
    health.watch(tellRedis(log), stop.signal),
  ].map((service) => service.catch((thrown: unknown) => failed(thrown, log, failure)));
  reload = () => void rescan(context, daemon).catch((err: unknown) => log.warn({ err }, "the look for new models failed"));
  unit.starting("taking up what an earlier daemon left");
  const recovered = daemon.recover(ending).catch((thrown: unknown) => {
    log.error({ err: asAppError(thrown) }, "the spool of an earlier daemon could not be read; the locks of its jobs will expire");
  });
  await Promise.race([Promise.allSettled([recovered, ...proofs.values()]), untilAborted(ending)]);
  if (!ending.aborted) {
    tellUnserved(context);
    log.info({ devices: used, models: daemon.served, admin: admin.url, store: context.store.label }, "worker ready");
    const working = used.flatMap(({ id }) => (daemon.care.isInService(id) ? [id] : []));
    await unit.ready(`serving ${daemon.served.length} models on ${working.join(", ")}`, () => liveness(daemon).ok);
    options.onReady?.(daemon.served);
  }

  await untilAborted(ending);
  await drain(daemon, announcer, { ...options, graceMs: config.shutdownGraceMs });
  stop.abort();
  blocking.disconnect();
  // What still waits for a Redis that is away has nothing to add; the entry that says we are here expires.
  await endedWithin(GOODBYE_MS, Promise.allSettled([...running, announcer.withdraw(), learned.save(daemon.loop.state.peaks)]));
  log.info("worker ended");
  return failure.signal.aborted ? 1 : 0;
}

interface DrainOptions extends Pick<WorkerOptions, "log" | "metrics" | "signals" | "unit"> {
  readonly graceMs: number;
}

/** Others hear that this worker takes no more while its jobs end or go back. */
async function drain(daemon: Daemon, announcer: Announcer, { log, metrics, signals, unit, graceMs }: DrainOptions): Promise<void> {
  const held = daemon.keeper.jobs.length;
  log.info({ held, graceMs }, "draining: no more jobs are claimed");
  metrics.draining.set(1);
  await unit.stopping(`draining: ${held} jobs have up to ${Math.ceil(graceMs / 1_000)} s`);
  const announced = announcer.sayDraining().catch(() => undefined);
  await daemon.drain(graceMs, signals.second);
  await endedWithin(GOODBYE_MS, announced);
}

/** A service of the daemon ended with an error: its jobs go back, and whoever supervises us starts us anew. */
function failed(thrown: unknown, log: Logger, failure: AbortController): void {
  log.fatal({ err: asAppError(thrown) }, "a service of the worker failed; it shuts down");
  failure.abort();
}

function tellWait(log: Logger, unit: ServiceUnit): (message: string) => void {
  return (message) => {
    log.warn({ message }, "waiting for the worker's name");
    unit.starting(message);
  };
}

interface Probes {
  health: () => HealthReport;
  ready: () => Promise<HealthReport>;
}

/** Up before anything is waited for: whoever supervises us asks it, and an address that is taken is told at once. */
async function listen(
  { adminHost: host, adminPort: port }: Config,
  { log, metrics, probes }: { readonly log: Logger; readonly metrics: Metrics<"worker">; readonly probes: Probes },
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
