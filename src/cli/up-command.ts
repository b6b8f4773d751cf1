import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import { COURIER_END_MS } from "../courier/main.ts";
import { GATEWAY_END_MS, runGateway } from "../gateway/main.ts";
import { BoundedStack } from "../lib/bounded-stack.ts";
import { makeFolders } from "../lib/make-folders.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { writeAtomic } from "../lib/write-atomic.ts";
import type { Models } from "../models/open-models.ts";
import { AppError } from "../protocol/error.ts";
import type { Clients } from "../state/open-clients.ts";
import { startPrivateRedis } from "../state/private-redis.ts";
import { PROGRAMS } from "../telemetry/metric-row.ts";
import { runWorker } from "../worker/main.ts";
import { courierBeside } from "./courier-beside.ts";
import { EXIT } from "./exit-codes.ts";
import { readLocalSystem, removeLocalSystem, writeLocalSystem } from "./local-system.ts";
import { openMetrics } from "./open-metrics.ts";
import { runService, type Service } from "./run-service.ts";
import type { Terminal } from "./terminal.ts";
import { ownCommand } from "./own-command.ts";
import { reachable, upLines } from "./up-lines.ts";
import { WORKER_END_MS } from "./worker-command.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The client that `dryapi up` makes for whoever sits at this machine. */
const LOCAL_CLIENT = "local";
/** The private redis-server writes its data out. */
const REDIS_STOP_MS = 20_000;

interface Access {
  readonly url: string;
  readonly key: string;
  readonly models: Pick<Models, "list">;
}

/** `dryapi up`: a private Redis unless REDIS_URL names one, the gateway with its courier and the worker, in one process that ends as one. */
export async function runUpCommand(env: Env, terminal: Terminal): Promise<number> {
  // Whoever tries the system out has no other models yet.
  const testModels = env["DRYAPI_TEST_MODELS"]?.trim() ?? "";
  return runService(
    {
      env: { ...env, DRYAPI_TEST_MODELS: testModels === "" ? "on" : testModels },
      // Results are lines on stdout; the log is beside them, for people.
      logger: ({ logFormat }) => ({ format: (env["DRYAPI_LOG_FORMAT"] ?? "") === "" ? "text" : logFormat, destination: 2 }),
      endMs: ({ shutdownGraceMs }) => shutdownGraceMs + WORKER_END_MS + GATEWAY_END_MS + COURIER_END_MS,
    },
    async (service) => {
      const { config, log } = service;
      await refuseSecond(config);
      await using stack = new BoundedStack({ ms: REDIS_STOP_MS, onProblem: (err) => log.warn({ err }, "closing") });
      const redis = config.redisUrl === null ? stack.use(await startPrivateRedis({ dir: join(config.stateDir, "redis") })) : null;
      const whole = { ...config, redisUrl: config.redisUrl ?? redis?.url ?? "" };
      return await runTogether(whole, { ...service, terminal, isPrivate: redis !== null });
    },
  );
}

async function refuseSecond({ stateDir }: Config): Promise<void> {
  await makeFolders(stateDir).catch((cause: unknown) => {
    throw new AppError(
      "CONFIG_INVALID",
      `state folder ${stateDir} cannot be used: ${String(cause)}; set DRYAPI_STATE_DIR to a folder that this user may write`,
      { cause },
    );
  });
  const running = await readLocalSystem(stateDir);
  if (running === null) return;
  throw new AppError(
    "CONFIG_INVALID",
    `state folder ${stateDir} is in use by \`dryapi up\` with pid ${running.pid}; stop it, or set DRYAPI_STATE_DIR to another folder`,
  );
}

interface Together extends Pick<Service, "log" | "signals" | "unit" | "ready"> {
  readonly terminal: Terminal;
  readonly isPrivate: boolean;
}

/** The worker ends first and the gateway after it. What fails ends the others, and is what this throws. */
async function runTogether(config: Config & { readonly redisUrl: string }, together: Together): Promise<number> {
  const { log, signals, unit, ready, terminal, isPrivate } = together;
  const { stateDir, redisUrl } = config;
  const stop = new AbortController();
  const withCourier = config.courier ? openMetrics(config, log, PROGRAMS) : null;
  using metrics = withCourier ?? openMetrics(config, log, ["worker", "gateway"]);
  const courier = courierBeside(config, { log, metrics: withCourier, signal: stop.signal });
  const reached = Promise.withResolvers<Access>();
  const gateway = runGateway(config, {
    log,
    metrics,
    signal: courier.ending,
    noAdmin: true,
    onReady: async ({ url, context }) => {
      ready();
      courier.start(context);
      reached.resolve({ url, key: await localKey(stateDir, context.clients), models: context.models });
    },
  }).finally(() => stop.abort());
  // Heard below, whatever comes first.
  gateway.catch(() => undefined);
  const ending = AbortSignal.any([signals.first, courier.ending]);
  try {
    const access = await Promise.race([reached.promise, untilAborted(ending)]);
    if (access === undefined) return EXIT.ok;
    await writeLocalSystem(stateDir, { pid: process.pid, redisUrl, apiUrl: access.url, apiKey: access.key });
    return await runWorker(config, {
      log,
      metrics,
      unit,
      signals: { first: ending, second: signals.second, onReload: (reload) => signals.onReload(reload) },
      onReady: (served) => announce({ config, access, served, isPrivate, terminal }),
    });
  } finally {
    stop.abort();
    const ends = await Promise.allSettled([gateway, courier.ended()]);
    await removeLocalSystem(stateDir);
    const failed = ends.find((end) => end.status === "rejected");
    // oxlint-disable-next-line no-unsafe-finally -- what failed first made the worker end in order
    if (failed !== undefined) throw failed.reason;
  }
}

/** The key of the local client: the one in the state folder while it is good, else a new one. */
async function localKey(stateDir: string, clients: Clients): Promise<string> {
  const path = join(stateDir, "api-key");
  const known = await readFile(path, "utf8").then(
    (text) => text.trim(),
    () => "",
  );
  if ((await clients.authenticate(known))?.id === LOCAL_CLIENT) return known;
  const key =
    (await clients.rotate(LOCAL_CLIENT)) ??
    (await clients.add({ id: LOCAL_CLIENT, name: "whoever sits at this machine", ratePerMinute: 0 })).key;
  await clients.setEnabled(LOCAL_CLIENT, true);
  await writeAtomic(path, `${key}\n`, 0o600);
  return key;
}

function announce(up: {
  readonly config: Config;
  readonly access: Access;
  readonly served: readonly string[];
  readonly isPrivate: boolean;
  readonly terminal: Terminal;
}): void {
  const { config, access, isPrivate, terminal } = up;
  const base = reachable(config.publicUrl ?? access.url);
  const lines = [
    "dryapi is up.",
    `console  ${base}/`,
    `API key  ${access.key}`,
    "",
    ...upLines({
      base,
      key: access.key,
      client: LOCAL_CLIENT,
      appKey: config.appKey,
      served: access.models.list().flatMap(({ slug, manifest }) => (up.served.includes(slug) ? [manifest] : [])),
      stateDir: process.env["DRYAPI_STATE_DIR"] === undefined ? null : config.stateDir,
      command: ownCommand(process.env),
    }),
    ...(isPrivate ? [`redis    ${config.redisUrl} (private to this command)`] : []),
    `store    ${config.storeUrl}`,
    "Ctrl-C stops it; running jobs end first or go back to the queue.",
  ];
  for (const line of lines) terminal.out(line);
}
