import { modelAvailability } from "../core/model-availability.ts";
import { AppError } from "../protocol/error.ts";
import type { Claim } from "../queue/queue-types.ts";
import { endUnservable, type UnservableJobs } from "./claims/end-unservable.ts";
import type { Daemon } from "./daemon.ts";
import type { UnusableModels } from "./unusable-models.ts";
import type { WorkerContext } from "./worker-context.ts";

const MAX_LOOK_EVERY_MS = 5_000;
/** Over some looks that did not take place (a restart, a Redis that was away). */
const FORGET_MS = 60_000;

/** Often enough that a job ends soon after its time. */
export function lookEveryMs({ unservableMs }: Pick<WorkerContext["config"], "unservableMs">): number {
  return Math.min(MAX_LOOK_EVERY_MS, Math.ceil(unservableMs / 4));
}

/** Ends jobs that wait for a model which this worker, and every other live one that has it, cannot load. */
export async function endUnservableJobs(context: WorkerContext, daemon: Daemon, reports: UnusableModels): Promise<void> {
  const own = reports.list();
  // Without its name a daemon claims nothing, these jobs neither.
  if (own.length === 0 || daemon.draining || daemon.isPaused("name")) return;
  const workers = await context.registry.list();
  for (const { model, code, message } of own) {
    if (modelAvailability(model, workers).kind !== "unusable") continue;
    const error = new AppError(code, `no live worker can load the model: ${message}`);
    const ended = await endUnservable(jobsOf(model, context, daemon), error);
    if (ended > 0) context.log.error({ model, jobs: ended, err: error }, "jobs waited too long for a model that no worker can load");
  }
}

function jobsOf(model: string, context: WorkerContext, { carrier }: Daemon): UnservableJobs<Claim> {
  const { queues, metrics, config } = context;
  return {
    due: () => queues.longUnservable(model, { boundMs: config.unservableMs, forgetMs: FORGET_MS }),
    claim: async () => {
      const claim = await queues.claim(model);
      if (claim !== null) metrics.claims.inc({ model });
      return claim;
    },
    end: (claim, why) => carrier.end(claim, why),
  };
}
