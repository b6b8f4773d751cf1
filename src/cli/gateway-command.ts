import { readConfig, secretValues, unknownSettings } from "../config/config.ts";
import { runGateway } from "../gateway/main.ts";
import { createLogger } from "../telemetry/logger.ts";
import { openSdNotify } from "../telemetry/sd-notify.ts";
import { openServiceUnit } from "../telemetry/service-unit.ts";
import { courierBeside } from "./courier-beside.ts";
import { openMetrics } from "./open-metrics.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** `dryapi gateway`: the HTTP API, until it is signalled. Logs go to stdout. */
export async function runGatewayCommand(env: Env): Promise<number> {
  const config = readConfig(env);
  const log = createLogger({
    level: config.logLevel,
    format: config.logFormat,
    base: { gateway: config.workerName },
    secrets: secretValues(env),
  });
  for (const name of unknownSettings(env)) log.warn({ setting: name }, "is set but is no setting; check its spelling with `dryapi config`");
  using unit = openServiceUnit(openSdNotify(env, { onError: (err) => log.warn({ err }, "systemd was not notified") }));
  unit.starting("opening store and Redis");
  const stop = new AbortController();
  stop.signal.addEventListener("abort", () => void unit.stopping("ending: requests under way get 10 s"), { once: true });
  const onSignal = (): void => stop.abort();
  process.once("SIGTERM", onSignal);
  process.once("SIGINT", onSignal);
  const withCourier = config.courier ? openMetrics(config, log, ["gateway", "courier"]) : null;
  using metrics = withCourier ?? openMetrics(config, log, ["gateway"]);
  const courier = courierBeside(config, { log, metrics: withCourier, stop });
  await runGateway(config, {
    log,
    metrics,
    signal: stop.signal,
    onReady: async ({ url, context }) => {
      courier.start(context);
      await unit.ready(`listening on ${url}`);
    },
  });
  await courier.ended();
  return 0;
}
