import { AppError, asAppError } from "../../protocol/error.ts";
import { parseJobData } from "../../protocol/job.ts";
import { jobLogger } from "../../telemetry/logger.ts";
import type { ClaimKeeper } from "./claim-keeper.ts";
import type { Finisher } from "./finisher.ts";
import { HeldJob, preempted } from "./held-job.ts";
import type { SpoolEntry } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";

/**
 * What an earlier daemon held when it ended. Claims whose outputs are whole are stored and completed; the others go back to the front of
 * their queues at once, so that nobody waits for their locks to expire. Claims that another worker has by now are left to it; their
 * outputs stay until the job has ended, in case it comes back here.
 */
export async function recoverClaims(context: WorkerContext, keeper: ClaimKeeper, finisher: Finisher): Promise<void> {
  const entries = await context.spool.scan();
  // Newest first, so that handed-back jobs stand in their old order.
  for (const entry of entries.toSorted((a, b) => b.claim.acceptedAt - a.claim.acceptedAt)) {
    try {
      await recoverOne(context, keeper, finisher, entry);
    } catch (thrown) {
      context.log.warn(
        { job: entry.claim.id, err: asAppError(thrown) },
        "a claim of an earlier daemon was not taken up; its lock will expire",
      );
    }
  }
}

async function recoverOne(context: WorkerContext, keeper: ClaimKeeper, finisher: Finisher, entry: SpoolEntry): Promise<void> {
  const { id, queue, token, claim: number } = entry.claim;
  const log = jobLogger(context.log, { job: id, model: queue, claim: number });
  const claim = await context.queues.adopt({ id, queue, token, claim: number });
  if (claim === null) {
    if (entry.complete === null) await context.spool.remove(id, number);
    log.info({ outputs: entry.complete !== null }, "a claim of an earlier daemon is no longer ours");
    return;
  }
  const job = new HeldJob({
    claim,
    data: parseJobData(claim.data),
    log,
    claimedAt: entry.claim.acceptedAt,
    startedAt: entry.claim.acceptedAt,
  });
  keeper.add(job);
  if (entry.complete === null) {
    const reason = preempted("the worker that held it ended");
    job.abort(reason);
    await finisher.fail(job, reason, { wasAlone: true, deviceBlamed: false, crashClaims: 0 });
    return;
  }
  try {
    await context.spool.verify(entry, entry.complete.files, job.signal);
  } catch (thrown) {
    await context.spool.remove(id);
    const reason = preempted(`its outputs in the spool are damaged: ${asAppError(thrown).message}`);
    job.abort(reason);
    await finisher.fail(job, new AppError("CAPACITY_UNAVAILABLE", reason.message), { wasAlone: true, deviceBlamed: false, crashClaims: 0 });
    return;
  }
  log.info("outputs of an earlier daemon are in the spool; they are stored, the job does not run again");
  finisher.store(job, entry, entry.complete);
}
