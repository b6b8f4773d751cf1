import type { AddressInfo } from "node:net";
import type { Config } from "../config/config.ts";
import { sleep } from "../lib/backoff.ts";
import { endedWithin } from "../lib/within.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { openStoreSweep } from "../requests/open-store-sweep.ts";
import { repairRequests } from "../requests/repair-requests.ts";
import { openSweepTurn } from "../state/open-sweep-turn.ts";
import { startAdminServer, type HealthCheck, type HealthReport } from "../telemetry/admin-server.ts";
import type { Logger } from "../telemetry/logger.ts";
import { exportHealth } from "../telemetry/export-health.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { tellRedis } from "../telemetry/tell-redis.ts";
import { createApp } from "./app.ts";
import { sweepUploads } from "./body/upload-folders.ts";
import { exportQueues } from "./export-queues.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { openGateway } from "./open-gateway.ts";

export interface GatewayOptions {
  readonly log: Logger;
  readonly metrics: Metrics<"gateway">;
  /** Ends the gateway. */
  readonly signal: AbortSignal;
  /** No listener for metrics and health: another part of this process has one. */
  readonly noAdmin?: boolean;
  /** Called once requests are accepted. */
  readonly onReady?: (ready: { readonly url: string; readonly context: GatewayContext }) => void | Promise<void>;
}

const SWEEP_EVERY_MS = 5_000;
const RESCAN_EVERY_MS = 30_000;
const UPLOADS_EVERY_MS = 600_000;
/** Requests that are under way at the end get so long. */
export const CLOSE_GRACE_MS = 10_000;

/** The gateway from start to end. Stateless: any number of them may run behind a load balancer. @throws AppError CONFIG_INVALID | STORAGE_* | REDIS_UNAVAILABLE */
export async function runGateway(config: Config, options: GatewayOptions): Promise<void> {
  const { log, metrics, signal } = options;
  await using stack = new AsyncDisposableStack();
  let boundUrl = "";
  const publicUrl = (): string => (config.publicUrl ?? boundUrl).replace(/\/+$/, "");
  const context = await openGateway({ config, log, metrics, publicUrl, stack });
  await context.health.admit({ signal, onWait: tellRedis(log) });
  const app = await createApp(context);
  try {
    await app.listen({ host: config.httpHost, port: config.httpPort });
  } catch (thrown) {
    throw new AppError("CONFIG_INVALID", `the gateway cannot listen on ${config.httpHost}:${config.httpPort}: ${String(thrown)}`, {
      cause: thrown,
    });
  }
  exportQueues(context);
  exportHealth(metrics, "gateway", { redis: () => context.health.last, ready: readiness });
  const { port } = app.server.address() as AddressInfo;
  boundUrl = `http://${config.httpHost.includes(":") ? `[${config.httpHost}]` : config.httpHost}:${port}`;
  if (options.noAdmin !== true) {
    const { adminHost: host, adminPort } = config;
    const ready = async (): Promise<HealthReport> => readiness(await context.health.check());
    const health = (): HealthReport => ({ ok: true, checks: {} });
    const admin = stack.use(
      await startAdminServer({ host, port: adminPort, metrics, health, ready, onError: (err) => log.warn({ err }, "admin listener") }),
    );
    log.info({ admin: admin.url }, "metrics and health");
  }
  log.info(
    { url: boundUrl, publicUrl: publicUrl(), models: (await offeredSlugs(context)) ?? "unknown: Redis does not answer" },
    "gateway ready",
  );
  const sweep = openStoreSweep({ ...context, turn: openSweepTurn(context) });
  const chores = [
    every(SWEEP_EVERY_MS, signal, async () => {
      const onError = (request: string, err: AppError): void => log.warn({ err, request }, "a request without a job could not be repaired");
      const repaired = await repairRequests({ ...context, onError });
      metrics.requestsRepaired.inc(repaired);
      if (repaired > 0) log.warn({ repaired }, "requests were recorded and not queued: their jobs were added");
    }),
    every(sweep.everyMs, signal, async () => {
      await sweep.run(signal).catch((thrown: unknown) => {
        if (!signal.aborted) log.warn({ err: asAppError(thrown) }, "the sweep of the object store failed; tried again");
      });
    }),
    every(UPLOADS_EVERY_MS, signal, async () => {
      const removed = await sweepUploads();
      if (removed > 0) log.info({ removed }, "uploads that a gateway left behind when it was killed were removed");
    }),
    every(RESCAN_EVERY_MS, signal, async () => void (await context.models.rescan())),
    context.health.watch(tellRedis(log), signal),
  ];
  await options.onReady?.({ url: boundUrl, context });
  await ended(signal);
  log.info("gateway ending: no more requests are accepted");
  await endedWithin(CLOSE_GRACE_MS, app.close());
  await Promise.allSettled(chores);

  async function every(intervalMs: number, until: AbortSignal, work: () => Promise<void>): Promise<void> {
    while (!until.aborted) {
      await work().catch((thrown: unknown) => log.debug({ err: asAppError(thrown) }, "a chore of the gateway failed; tried again"));
      await sleep(intervalMs, until).catch(() => undefined);
    }
  }
}

function readiness(redis: HealthCheck): HealthReport {
  return { ok: redis.ok, checks: { redis } };
}

async function offeredSlugs({ offered }: GatewayContext): Promise<readonly string[] | null> {
  return offered.list().then(
    (entries) => entries.map(({ slug }) => slug),
    () => null,
  );
}

async function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}
