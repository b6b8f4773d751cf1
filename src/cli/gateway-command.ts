import { GATEWAY_END_MS, runGateway } from "../gateway/main.ts";
import { courierBeside } from "./courier-beside.ts";
import { EXIT } from "./exit-codes.ts";
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
    async ({ config, log, signals, ready }) => {
      const courier = courierBeside(config, { log, signal: signals.first });
      await runGateway(config, {
        log,
        signal: courier.ending,
        onReady: ({ context }) => {
          ready();
          courier.start(context);
        },
      });
      await courier.ended();
      return EXIT.ok;
    },
  );
}
