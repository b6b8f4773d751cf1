import { packageVersion, SHIPPED_MODELS_DIR } from "../config/package-info.ts";
import type { Config } from "../config/config.ts";
import { pulledModelsDir } from "../config/model-folders.ts";
import { whyUnfit } from "../core/device-fit.ts";
import { storeOptions } from "../config/store-options.ts";
import { isAskedFor } from "../models/asked-for.ts";
import { checkNamedModels } from "../models/check-named-models.ts";
import { openHelperPrograms, type FindMissingPrograms } from "../models/helper-programs.ts";
import { openModels } from "../models/open-models.ts";
import { openGuardedFetch } from "../net/open-guarded-fetch.ts";
import type { Keys } from "../protocol/keys.ts";
import { openState, type SharedState } from "../requests/open-state.ts";
import { openStoreSweep } from "../requests/open-store-sweep.ts";
import { openCancelChannel } from "../state/open-cancel-channel.ts";
import { openFaultLedger } from "../state/open-fault-ledger.ts";
import { openIntents } from "../state/open-intents.ts";
import { openSweepTurn } from "../state/open-sweep-turn.ts";
import { openObjectStore } from "../storage/object-store.ts";
import { openStoreHealth, type StoreHealth } from "../storage/store-health.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { budgetedDevices } from "./devices/budgeted-devices.ts";
import type { DetectedDevice } from "./devices/devices.ts";
import { openSpool } from "./spool/spool.ts";
import { createUploader } from "./claims/uploader.ts";
import type { WorkerContext } from "./worker-context.ts";

/** The connections beside the context's own, for the wake-up. */
export interface OpenedContext {
  readonly context: WorkerContext;
  readonly keys: Keys;
  readonly blocking: SharedState["redis"];
  readonly health: SharedState["health"];
  readonly storeHealth: StoreHealth;
}

/** What a model lacks that nobody asked for is no news. */
function programsOfAskedFor(config: Config): FindMissingPrograms {
  const find = openHelperPrograms({ env: process.env, ffmpegDir: config.ffmpegDir });
  return async (manifest) => (isAskedFor(manifest, config) ? find(manifest) : []);
}

/** Opens all that the daemon works with; what was opened is closed through `stack`, in reverse. @throws AppError CONFIG_INVALID | STORAGE_* | SPOOL_FULL */
export async function openContext(options: {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: Metrics<"worker">;
  readonly stack: AsyncDisposableStack;
  readonly devices: readonly DetectedDevice[];
  readonly runnerEntry?: string;
}): Promise<OpenedContext> {
  const { config, log, metrics, stack, runnerEntry } = options;
  const devices = budgetedDevices(options.devices, config);
  const models = await openModels({
    shippedDir: SHIPPED_MODELS_DIR,
    modelDirs: config.modelsDirs,
    pulledDir: pulledModelsDir(config),
    stateDir: config.stateDir,
    onNote: (note) => log.warn({ note }, "models"),
    missingPrograms: programsOfAskedFor(config),
    whyUnfit: (manifest, partBytes) => (isAskedFor(manifest, config) ? whyUnfit(manifest, partBytes, devices) : null),
  });
  checkNamedModels(config, models);
  const spool = stack.use(
    await openSpool(config.spoolDir, {
      maxBytes: config.spoolMaxBytes,
      minFreeBytes: config.spoolMinFreeBytes,
      onProblem: (message) => log.warn({ message }, "spool"),
    }),
  );
  const store = stack.use(await openObjectStore(config.storeUrl, storeOptions(config)));
  const storeHealth = openStoreHealth({ store });
  const onError = (err: Error, role: string): void => log.debug({ err, role }, "Redis connection");
  const state = openState({ settings: config, role: "worker", stack, onError });
  const { redis, keys, connect, health, queues, requests, emitter, registry, runTimes } = state;
  const uploader = createUploader({
    store,
    concurrency: config.maxConcurrentUploads,
    onFailure: ({ key, error, attempt, retryInMs }) => {
      metrics.uploadRetries.inc({ code: error.code });
      log.warn({ key, err: error, attempt, retryInMs }, "upload failed; tried again");
      storeHealth.doubt();
    },
    onUploaded: ({ sizeBytes, seconds }) => {
      storeHealth.proven();
      metrics.uploadBytes.inc(sizeBytes);
      metrics.uploadSeconds.observe(seconds);
    },
  });
  const shared = { redis, keys };
  const context: WorkerContext = {
    config,
    log,
    metrics,
    queues,
    requests,
    emitter,
    intents: openIntents(shared),
    registry,
    ledger: openFaultLedger({ ...shared, ttlMs: config.retentionMs }),
    cancels: openCancelChannel({ ...shared, subscriber: connect("subscriber") }),
    store,
    spool,
    uploader,
    storeSweep: openStoreSweep({ turn: openSweepTurn(shared), store, requests, queues, config, log, metrics }),
    models,
    runTimes,
    // Media lies on plain http often enough; what is fetched is judged by its content, and private addresses are refused all the same.
    guardedFetch: stack.use(
      openGuardedFetch({ egressAllow: config.egressAllow, allowHttp: true, userAgent: `dryapi-worker/${packageVersion()}` }),
    ),
    ...(runnerEntry !== undefined && { runnerEntry }),
  };
  return { context, keys, blocking: connect("blocking"), health, storeHealth };
}
