import type { Config } from "../config/config.ts";
import { sleep } from "../lib/backoff.ts";
import { BoundedStack } from "../lib/bounded-stack.ts";
import { endedWithin } from "../lib/within.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { DELIVERY_QUEUE } from "../queue/delivery-job.ts";
import type { DeliveryQueue } from "../queue/open-delivery-queue.ts";
import { watchQueues } from "../queue/watch-queues.ts";
import type { RedisHealth } from "../state/redis-health.ts";
import type { HealthReport } from "../telemetry/admin-server.ts";
import { exportHealth } from "../telemetry/export-health.ts";
import type { Logger } from "../telemetry/logger.ts";
import { Courier } from "./courier.ts";
import { openCourier, type CourierOptions } from "./open-courier.ts";

const ORPHANS_EVERY_MS = 30_000;
const SWEEP_EVERY_MS = 60_000;
const DRAIN_MS = 5_000;
/** For chores that were under way, and for connections. */
const CLOSE_MS = 1_000;
/** How long the whole end may take. */
export const COURIER_END_MS: number = DRAIN_MS + 10_000;

/**
 * The courier from start to end: delivers webhooks until the signal aborts. State lives in Redis alone; any number may run. A Redis that is
 * away is waited for. @throws AppError CONFIG_INVALID | STORAGE_* | REDIS_UNAVAILABLE
 */
export async function runCourier(config: Config, options: CourierOptions): Promise<void> {
  const { log, metrics, signal, onRedis } = options;
  await using stack = new BoundedStack({ ms: CLOSE_MS, onProblem: (err) => log.warn({ err }, "closing") });
  const parts = await openCourier(config, options, stack);
  if (parts === null) return;
  const { context, keys, blocking, health } = parts;
  const { queue } = context;
  const courier = new Courier(context);
  metrics.onScrape(async () => metrics.webhooksWaiting.set(signal.aborted ? 0 : (await queue.peek()).waiting));
  exportHealth(metrics, "courier", {
    redis: () => health.last,
    ready: (redis) => ({ ok: redis.ok && !signal.aborted, checks: { redis } }),
  });
  const stop = new AbortController();
  const chore = (everyMs: number, work: () => Promise<void>): Promise<void> => repeat({ everyMs, signal: stop.signal, log }, work);
  const chores = [
    watchQueues({ redis: blocking, keys, models: () => [DELIVERY_QUEUE], onWake: () => courier.wake(), signal: stop.signal }),
    chore(config.lockMs / 3, () => courier.renew()),
    chore(config.stalledIntervalMs, () => queue.recoverStalled()),
    chore(ORPHANS_EVERY_MS, () => freeOrphans(queue, log)),
    chore(SWEEP_EVERY_MS, async () => void (await queue.sweep())),
    health.watch((check) => onRedis?.(check), stop.signal),
  ];
  log.info({ egressAllow: config.egressAllow }, "courier ready");
  options.onReady?.(() => readiness(health, queue, courier));
  await courier.run(signal);
  await courier.drain(DRAIN_MS);
  stop.abort(new AppError("CANCELLED", "the courier ends"));
  await endedWithin(CLOSE_MS, Promise.allSettled(chores));
  log.info("courier ended");
}

async function readiness(health: RedisHealth, queue: DeliveryQueue, courier: Courier): Promise<HealthReport> {
  const redis = await health.check();
  if (!redis.ok) return { ok: false, checks: { redis } };
  try {
    const { waiting } = await queue.peek();
    return { ok: true, checks: { redis, webhooks: { ok: true, detail: `${waiting} due, ${courier.inFlight} under way` } } };
  } catch (thrown) {
    return { ok: false, checks: { redis, webhooks: { ok: false, detail: asAppError(thrown).message } } };
  }
}

async function freeOrphans(queue: DeliveryQueue, log: Logger): Promise<void> {
  const freed = await queue.freeOrphans();
  if (freed > 0) log.warn({ freed }, "deliveries waited for jobs that had ended or were gone; they are delivered now");
}

interface Chore {
  readonly everyMs: number;
  readonly signal: AbortSignal;
  readonly log: Logger;
}

/** Until the signal aborts. A Redis that is away is no news here. */
async function repeat({ everyMs, signal, log }: Chore, work: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await sleep(everyMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    await work().catch((err: unknown) => {
      if (asAppError(err).code !== "REDIS_UNAVAILABLE") log.warn({ err }, "a chore of the courier failed");
    });
  }
}
