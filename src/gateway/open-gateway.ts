import type { Config } from "../config/config.ts";
import { pulledModelsDir } from "../config/model-folders.ts";
import { SHIPPED_MODELS_DIR } from "../config/package-info.ts";
import { storeOptions } from "../config/store-options.ts";
import { unknownNames } from "../models/check-named-models.ts";
import { openModels } from "../models/open-models.ts";
import { openGuardedFetch } from "../net/open-guarded-fetch.ts";
import { openState } from "../requests/open-state.ts";
import { openCancelChannel } from "../state/open-cancel-channel.ts";
import { openClients } from "../state/open-clients.ts";
import { openIdempotency } from "../state/open-idempotency.ts";
import { openRateLimits } from "../state/open-rate-limits.ts";
import { openObjectStore } from "../storage/object-store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { GatewayContext } from "./gateway-context.ts";
import { openOfferedModels } from "./submit/offered-models.ts";

export interface OpenGatewayOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: Metrics<"gateway">;
  readonly publicUrl: () => string;
  /** What is opened is closed through it, in reverse. */
  readonly stack: AsyncDisposableStack;
}

/** Opens all that the routes work with. @throws AppError CONFIG_INVALID | STORAGE_* */
export async function openGateway(options: OpenGatewayOptions): Promise<GatewayContext> {
  const { config, log, metrics, stack } = options;
  const state = openState({
    settings: config,
    role: "producer",
    queueRole: "adder",
    stack,
    onError: (err, role) => log.debug({ err, role }, "Redis connection"),
  });
  const models = await openModels({
    shippedDir: SHIPPED_MODELS_DIR,
    modelDirs: config.modelsDirs,
    pulledDir: pulledModelsDir(config),
    stateDir: config.stateDir,
    onNote: (note) => log.warn({ note }, "models"),
  });
  for (const { message } of unknownNames(config, models)) log.warn({ note: `${message}; it is not offered` }, "models");
  const store = stack.use(await openObjectStore(config.storeUrl, storeOptions(config)));
  const { redis, keys, connect, registry } = state;
  const shared = { redis, keys };
  return {
    ...state,
    config,
    publicUrl: options.publicUrl,
    log,
    metrics,
    connectSubscriber: () => connect("subscriber"),
    models,
    store,
    cancels: openCancelChannel({ ...shared, subscriber: connect("subscriber") }),
    clients: openClients(shared),
    limits: openRateLimits(shared),
    idempotency: openIdempotency(shared),
    guardedFetch: stack.use(openGuardedFetch({ egressAllow: config.egressAllow, allowHttp: config.allowHttpWebhooks })),
    offered: openOfferedModels({ ...shared, config, models, registry }),
  };
}
