import type { RunTimes } from "../state/open-run-times.ts";
import type { Config } from "../config/config.ts";
import type { GuardedFetch } from "../net/open-guarded-fetch.ts";
import type { Models } from "../models/open-models.ts";
import type { Queues } from "../queue/queue-types.ts";
import type { StoreSweep } from "../requests/open-store-sweep.ts";
import type { CancelChannel, FaultLedger, Emitter, Intents, Registry, Requests } from "../state/state-types.ts";
import type { ObjectStore } from "../storage/object-store.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Spool } from "./spool/spool.ts";
import type { Uploader } from "./claims/uploader.ts";

/** Everything that the parts of the daemon share, opened by main.ts. */
export interface WorkerContext {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: Metrics<"worker">;
  readonly queues: Queues;
  readonly requests: Requests;
  readonly emitter: Emitter;
  readonly intents: Intents;
  readonly registry: Registry;
  readonly ledger: FaultLedger;
  readonly cancels: CancelChannel;
  readonly store: ObjectStore;
  readonly spool: Spool;
  readonly uploader: Uploader;
  readonly storeSweep: StoreSweep;
  readonly models: Pick<Models, "ensureVerified" | "get" | "invalid" | "list" | "markCorrupt" | "rescan">;
  readonly runTimes: RunTimes;
  /** The only way to URLs of clients. */
  readonly guardedFetch: GuardedFetch;
  /** Where runners start instead of at their own entry. */
  readonly runnerEntry?: string;
}
