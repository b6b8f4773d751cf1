import { COURIER_END_MS, runCourier } from "../courier/main.ts";
import { BoundedStack } from "../lib/bounded-stack.ts";
import { AppError } from "../protocol/error.ts";
import { startAdminServer, type HealthReport } from "../telemetry/admin-server.ts";
import { tellRedis } from "../telemetry/tell-redis.ts";
import { EXIT } from "./exit-codes.ts";
import { openMetrics } from "./open-metrics.ts";
import { runService, type Service } from "./run-service.ts";

type Env = Readonly<Record<string, string | undefined>>;

const CLOSE_MS = 1_000;

/** `dryapi courier`: delivers webhooks until it is signalled. Logs go to stdout. */
export async function runCourierCommand(env: Env): Promise<number> {
  return runService(
    {
      env,
      logger: ({ logFormat: format, workerName }) => ({ format, base: { courier: workerName } }),
      endMs: () => COURIER_END_MS,
    },
    courierAlone,
  );
}

async function courierAlone({ config, log, signals, unit, ready }: Service): Promise<number> {
  const { publicUrl, adminHost: host, adminPort: port } = config;
  if (publicUrl === null) {
    throw new AppError(
      "CONFIG_INVALID",
      "DRYAPI_PUBLIC_URL is unset: set it to how clients reach the gateway; result links in webhooks begin with it",
    );
  }
  await using stack = new BoundedStack({ ms: CLOSE_MS, onProblem: (err) => log.warn({ err }, "closing") });
  unit.starting("opening store and Redis");
  const metrics = stack.use(openMetrics(config, log, ["courier"]));
  let check: () => Promise<HealthReport> = async () => ({ ok: false, checks: { redis: { ok: false, detail: "not reached yet" } } });
  const admin = stack.use(
    await startAdminServer({
      host,
      port,
      metrics,
      health: () => ({ ok: true, checks: {} }),
      ready: () => check(),
      onError: (err) => log.warn({ err }, "admin listener"),
    }),
  );
  log.info({ admin: admin.url }, "metrics and health");
  await runCourier(config, {
    log,
    metrics,
    signal: signals.first,
    publicUrl: () => publicUrl.replace(/\/+$/, ""),
    onRedis: tellRedis(log),
    onReady: (readiness) => {
      ready();
      check = readiness;
      void unit.ready("delivering webhooks");
    },
  });
  return EXIT.ok;
}
