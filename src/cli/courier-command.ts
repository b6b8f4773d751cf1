import { readConfig, secretValues, unknownSettings } from "../config/config.ts";
import { runCourier } from "../courier/main.ts";
import { AppError } from "../protocol/error.ts";
import { startAdminServer, type HealthReport } from "../telemetry/admin-server.ts";
import { createLogger } from "../telemetry/logger.ts";
import { openSdNotify } from "../telemetry/sd-notify.ts";
import { openServiceUnit } from "../telemetry/service-unit.ts";
import { tellRedis } from "../telemetry/tell-redis.ts";
import { openMetrics } from "./open-metrics.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** `dryapi courier`: delivers webhooks until it is signalled. Logs go to stdout. */
export async function runCourierCommand(env: Env): Promise<number> {
  const config = readConfig(env);
  const { publicUrl } = config;
  if (publicUrl === null) {
    throw new AppError(
      "CONFIG_INVALID",
      "DRYAPI_PUBLIC_URL is unset: set it to how clients reach the gateway; result links in webhooks begin with it",
    );
  }
  const log = createLogger({
    level: config.logLevel,
    format: config.logFormat,
    base: { courier: config.workerName },
    secrets: secretValues(env),
  });
  for (const name of unknownSettings(env)) log.warn({ setting: name }, "is set but is no setting; check its spelling with `dryapi config`");
  using unit = openServiceUnit(openSdNotify(env, { onError: (err) => log.warn({ err }, "systemd was not notified") }));
  unit.starting("opening store and Redis");
  const stop = new AbortController();
  stop.signal.addEventListener("abort", () => void unit.stopping("ending: deliveries under way get 5 s"), { once: true });
  const onSignal = (): void => stop.abort(new AppError("CANCELLED", "signalled"));
  process.once("SIGTERM", onSignal);
  process.once("SIGINT", onSignal);
  using metrics = openMetrics(config, log, ["courier"]);
  let check: () => Promise<HealthReport> = async () => ({ ok: false, checks: { redis: { ok: false, detail: "not reached yet" } } });
  await using admin = await startAdminServer({
    host: config.adminHost,
    port: config.adminPort,
    metrics,
    health: () => ({ ok: true, checks: {} }),
    ready: () => check(),
    onError: (err) => log.warn({ err }, "admin listener"),
  });
  log.info({ admin: admin.url }, "metrics and health");
  await runCourier(config, {
    log,
    metrics,
    signal: stop.signal,
    publicUrl: () => publicUrl.replace(/\/+$/, ""),
    onRedis: tellRedis(log),
    onReady: (ready) => {
      check = ready;
      void unit.ready("delivering webhooks");
    },
  });
  return 0;
}
