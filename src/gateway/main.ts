import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import type { Config } from "../config/config.ts";
import { sleep } from "../lib/backoff.ts";
import { BoundedStack } from "../lib/bounded-stack.ts";
import { errnoOf } from "../lib/errno.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { endedWithin } from "../lib/within.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { openStoreSweep } from "../requests/open-store-sweep.ts";
import { repairRequests } from "../requests/repair-requests.ts";
import { openSweepTurn } from "../state/open-sweep-turn.ts";
import { openStoreHealth, type StoreCheck, type StoreHealth } from "../storage/store-health.ts";
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
/** For chores that were under way, and for connections. */
const CLOSE_MS = 1_000;
/** How long the whole end may take. */
export const GATEWAY_END_MS: number = CLOSE_GRACE_MS + 10_000;

/** The gateway from start to end. Stateless: any number of them may run behind a load balancer. @throws AppError CONFIG_INVALID | STORAGE_* | REDIS_UNAVAILABLE */
export async function runGateway(config: Config, options: GatewayOptions): Promise<void> {
  const { log, metrics, signal } = options;
  await using stack = new BoundedStack({ ms: CLOSE_MS, onProblem: (err) => log.warn({ err }, "closing") });
  let boundUrl = "";
  const publicUrl = (): string => (config.publicUrl ?? boundUrl).replace(/\/+$/, "");
  let ready = async (): Promise<HealthReport> => STARTING;
  if (options.noAdmin !== true) {
    // Up before anything is waited for: whoever supervises us asks it, and an address that is taken is told at once.
    const { adminHost: host, adminPort } = config;
    const health = (): HealthReport => ({ ok: true, checks: {} });
    const onError = (err: unknown): void => log.warn({ err }, "admin listener");
    const admin = stack.use(await startAdminServer({ host, port: adminPort, metrics, health, ready: () => ready(), onError }));
    log.info({ admin: admin.url }, "metrics and health");
  }
  const context = await openGateway({ config, log, metrics, publicUrl, stack });
  const storeHealth = openStoreHealth(context);
  await Promise.all([context.health.admit({ signal, onWait: tellRedis(log) }), storeHealth.admit(signal)]);
  if (signal.aborted) return;
  const app = await createApp(context);
  stack.defer(() => app.close());
  boundUrl = await listen(app, config);
  ready = async () => readiness(await context.health.check(), storeHealth);
  exportQueues(context);
  exportHealth(metrics, "gateway", { redis: () => context.health.last, ready: (redis) => readiness(redis, storeHealth) });
  const offered = await Promise.race([offeredSlugs(context), untilAborted(signal)]);
  if (signal.aborted) return;
  log.info({ url: boundUrl, publicUrl: publicUrl(), models: offered ?? "unknown: Redis does not answer" }, "gateway ready");
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
    storeHealth.watch(tellStore(log), signal),
  ];
  await options.onReady?.({ url: boundUrl, context });
  await untilAborted(signal);
  log.info("gateway ending: no more requests are accepted");
  await endedWithin(CLOSE_GRACE_MS, app.close());
  await endedWithin(CLOSE_MS, Promise.allSettled(chores));

  async function every(intervalMs: number, until: AbortSignal, work: () => Promise<void>): Promise<void> {
    while (!until.aborted) {
      await work().catch((thrown: unknown) => log.debug({ err: asAppError(thrown) }, "a chore of the gateway failed; tried again"));
      await sleep(intervalMs, until).catch(() => undefined);
    }
  }
}

/** @throws AppError CONFIG_INVALID */
async function listen(app: FastifyInstance, { httpHost: host, httpPort }: Config): Promise<string> {
  try {
    await app.listen({ host, port: httpPort });
  } catch (cause) {
    const hint =
      errnoOf(cause) === "EADDRINUSE"
        ? "another program uses it; set DRYAPI_HTTP_PORT to a free port, or 0 for any"
        : "set DRYAPI_HTTP_HOST to an address of this machine";
    throw new AppError("CONFIG_INVALID", `the gateway cannot listen on ${host}:${httpPort} (${String(cause)}): ${hint}`, { cause });
  }
  const { port } = app.server.address() as AddressInfo;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The answer until the start is over. */
const STARTING: HealthReport = { ok: false, checks: { start: { ok: false, detail: "the gateway is starting" } } };

/**
 * A store that refuses this gateway may take others: requests should go there. One that does not answer is away for all, and most of the
 * API works without it: the gateway stays in service, says so, and answers 503 to what needs the store.
 */
function readiness(redis: HealthCheck, { last }: StoreHealth): HealthReport {
  return { ok: redis.ok && (last.ok || !last.lasting), checks: { redis, store: { ok: last.ok, detail: last.detail } } };
}

/** Logs when the store stops taking writes, and when it takes them again. */
function tellStore(log: Logger): (check: StoreCheck) => void {
  let isTold = false;
  return ({ ok, detail }) => {
    if (!ok) log.error({ store: detail }, "the object store takes no writes: uploads are answered 503; tried again");
    else if (isTold) log.info({ store: detail }, "the object store takes writes again");
    isTold ||= !ok;
  };
}

async function offeredSlugs({ offered }: GatewayContext): Promise<readonly string[] | null> {
  return offered.list().then(
    (entries) => entries.map(({ slug }) => slug),
    () => null,
  );
}
