import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readConfig, secretValues, unknownSettings, type Config } from "../config/config.ts";
import { runGateway } from "../gateway/main.ts";
import { writeAtomic } from "../lib/write-atomic.ts";
import type { Models } from "../models/open-models.ts";
import { AppError } from "../protocol/error.ts";
import type { Clients } from "../state/open-clients.ts";
import { startPrivateRedis } from "../state/private-redis.ts";
import { createLogger } from "../telemetry/logger.ts";
import { PROGRAMS } from "../telemetry/metric-row.ts";
import { runWorker } from "../worker/main.ts";
import { courierBeside } from "./courier-beside.ts";
import { readLocalSystem, removeLocalSystem, writeLocalSystem } from "./local-system.ts";
import { openMetrics } from "./open-metrics.ts";
import type { Terminal } from "./terminal.ts";
import { ownCommand } from "./own-command.ts";
import { reachable, upLines } from "./up-lines.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The client that `dryapi up` makes for whoever sits at this machine. */
const LOCAL_CLIENT = "local";

interface Access {
  readonly url: string;
  readonly key: string;
  readonly models: Pick<Models, "list">;
}

/** `dryapi up`: a private Redis unless REDIS_URL names one, the gateway with its courier and the worker, in one process that ends as one. */
export async function runUpCommand(env: Env, terminal: Terminal): Promise<number> {
  // Whoever tries the system out has no other models yet.
  const testModels = env["DRYAPI_TEST_MODELS"]?.trim() ?? "";
  const config = readConfig({ ...env, DRYAPI_TEST_MODELS: testModels === "" ? "on" : testModels });
  await mkdir(config.stateDir, { recursive: true });
  const running = await readLocalSystem(config.stateDir);
  if (running !== null) {
    throw new AppError(
      "CONFIG_INVALID",
      `state folder ${config.stateDir} is in use by \`dryapi up\` with pid ${running.pid}; stop it, or set DRYAPI_STATE_DIR to another folder`,
    );
  }
  const format = (env["DRYAPI_LOG_FORMAT"] ?? "") === "" ? "text" : config.logFormat;
  const log = createLogger({ level: config.logLevel, format, secrets: secretValues(env), destination: 2 });
  for (const name of unknownSettings(env)) log.warn({ setting: name }, "is set but is no setting; check its spelling with `dryapi config`");
  await using redis = config.redisUrl === null ? await startPrivateRedis({ dir: join(config.stateDir, "redis") }) : null;
  const redisUrl = config.redisUrl ?? redis?.url ?? "";
  const whole = { ...config, redisUrl };
  const stop = new AbortController();
  const withCourier = config.courier ? openMetrics(whole, log, PROGRAMS) : null;
  using metrics = withCourier ?? openMetrics(whole, log, ["worker", "gateway"]);
  const courier = courierBeside(whole, { log, metrics: withCourier, stop });
  const { promise: access, resolve } = Promise.withResolvers<Access>();
  const gateway = runGateway(whole, {
    log,
    metrics,
    signal: stop.signal,
    noAdmin: true,
    onReady: async ({ url, context }) => {
      courier.start(context);
      resolve({ url, key: await localKey(config.stateDir, context.clients), models: context.models });
    },
  });
  let failure: unknown = null;
  try {
    const reached = await Promise.race([access, gateway.then(() => access)]);
    const { url, key } = reached;
    await writeLocalSystem(config.stateDir, { pid: process.pid, redisUrl, apiUrl: url, apiKey: key });
    return await runWorker(whole, {
      log,
      metrics,
      onReady: (served) => announce({ config: whole, access: reached, served, isPrivate: redis !== null, terminal }),
    });
  } catch (thrown) {
    failure = thrown;
    throw thrown;
  } finally {
    stop.abort();
    await gateway.catch((err: unknown) => {
      // What ends this command is told by its caller.
      if (err !== failure) log.warn({ err }, "the gateway ended with an error");
    });
    await courier.ended();
    await removeLocalSystem(config.stateDir);
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
