import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readConfig, secretValues, unknownSettings, type Config } from "../config/config.ts";
import { runGateway } from "../gateway/main.ts";
import { writeAtomic } from "../lib/write-atomic.ts";
import { AppError } from "../protocol/error.ts";
import type { Clients } from "../state/open-clients.ts";
import { startPrivateRedis } from "../state/private-redis.ts";
import { createLogger } from "../telemetry/logger.ts";
import { runWorker } from "../worker/main.ts";
import { courierBeside } from "./courier-beside.ts";
import { readLocalSystem, removeLocalSystem, writeLocalSystem } from "./local-system.ts";
import type { Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The client that `dryapi up` makes for whoever sits at this machine. */
const LOCAL_CLIENT = "local";

interface Access {
  readonly url: string;
  readonly key: string;
}

/** `dryapi up`: a private Redis unless REDIS_URL names one, the gateway with its courier and the worker, in one process that ends as one. */
export async function runUpCommand(env: Env, terminal: Terminal): Promise<number> {
  const config = readConfig(env);
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
  const courier = courierBeside(whole, { log, stop });
  const { promise: access, resolve } = Promise.withResolvers<Access>();
  const gateway = runGateway(whole, {
    log,
    signal: stop.signal,
    noAdmin: true,
    onReady: async ({ url, context }) => {
      courier.start(context);
      resolve({ url, key: await localKey(config.stateDir, context.clients) });
    },
  });
  let failure: unknown = null;
  try {
    const { url, key } = await Promise.race([access, gateway.then(() => access)]);
    await writeLocalSystem(config.stateDir, { pid: process.pid, redisUrl, apiUrl: url, apiKey: key });
    return await runWorker(whole, {
      log,
      onReady: () => announce({ config: whole, access: { url, key }, isPrivate: redis !== null, terminal }),
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
  readonly isPrivate: boolean;
  readonly terminal: Terminal;
}): void {
  const { config, access, isPrivate, terminal } = up;
  const { url, key } = access;
  const base = (config.publicUrl ?? url).replace(/\/+$/, "");
  const { hostname, port, protocol } = new URL(base);
  const state = process.env["DRYAPI_STATE_DIR"] === undefined ? "" : `DRYAPI_STATE_DIR=${config.stateDir} `;
  const lines = [
    "dryapi is up.",
    `console  ${base}/`,
    `API key  ${key}`,
    "",
    "curl:",
    `  curl -s ${base}/api/v1/client/txt2img -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' \\`,
    `    -d '{"model":"tiny-flux-schnell","prompt":"a lighthouse","width":256,"height":256,"steps":4}'`,
    `  curl -s ${base}/api/v1/client/request-status/REQUEST_ID -H 'Authorization: Bearer ${key}'`,
    "",
    "pusher-js:",
    `  const pusher = new Pusher("${config.appKey}", { wsHost: "${hostname}", wsPort: ${port || "80"}, wssPort: ${port || "443"}, forceTLS: ${protocol === "https:"}, cluster: "x",`,
    `    enabledTransports: ["ws", "wss"], channelAuthorization: { endpoint: "${base}/broadcasting/auth", headers: { Authorization: "Bearer ${key}" } } });`,
    `  pusher.subscribe("private-client.${LOCAL_CLIENT}").bind("request.status.updated", (update) => console.log(update));`,
    "",
    `or       ${state}npx dryapi submit txt2img model=tiny-flux-schnell prompt="a lighthouse" width=256 height=256 steps=4`,
    ...(isPrivate ? [`redis    ${config.redisUrl} (private to this command)`] : []),
    `store    ${config.storeUrl}`,
    "Ctrl-C stops it; running jobs end first or go back to the queue.",
  ];
  for (const line of lines) terminal.out(line);
}
