import { GATEWAY_END_MS, runGateway } from "../gateway/main.ts";
import { courierBeside } from "./courier-beside.ts";
import { EXIT } from "./exit-codes.ts";
import { openMetrics } from "./open-metrics.ts";
import { runService } from "./run-service.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** `dryapi gateway`: the HTTP API, until it is signalled. Logs go to stdout. */
export async function runGatewayCommand(env: Env): Promise<number> {
  return runService(
    {
      env,
      logger: ({ logFormat: format, workerName }) => ({ format, base: { gateway: workerName } }),
      endMs: () => GATEWAY_END_MS,
    },
    async ({ config, log, signals, unit, ready }) => {
      unit.starting("opening store and Redis");
      const withCourier = config.courier ? openMetrics(config, log, ["gateway", "courier"]) : null;
      using metrics = withCourier ?? openMetrics(config, log, ["gateway"]);
      const courier = courierBeside(config, { log, metrics: withCourier, signal: signals.first });
      await runGateway(config, {
        log,
        metrics,
        signal: courier.ending,
        onReady: async ({ url, context }) => {
          ready();
          courier.start(context);
          await unit.ready(`listening on ${url}`);
        },
      });
      await courier.ended();
      return EXIT.ok;
    },
  );
}
