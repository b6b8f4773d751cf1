import { asAppError } from "../../protocol/error.ts";
import type { SpoolEntry } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { Carrier } from "./carrier.ts";

type RecoverContext = Pick<WorkerContext, "log" | "queues" | "spool">;

/**
 * Takes up what an earlier daemon held when it ended, so that nobody waits for its locks to expire. A claim that is no longer ours is
 * left to whoever has the job; its outputs stay until the job has ended, in case it comes back here. Resolves when each claim that is
 * still ours is being carried; ends early when the signal aborts.
 */
export async function recoverClaims(context: RecoverContext, carrier: Pick<Carrier, "carryOn">, signal: AbortSignal): Promise<void> {
  for (const entry of await context.spool.scan()) {
    if (signal.aborted) return;
    const job = { job: entry.claim.id, claim: entry.claim.claim };
    try {
      await recoverOne(context, carrier, entry);
    } catch (thrown) {
      context.log.warn({ ...job, err: asAppError(thrown) }, "a claim of an earlier daemon was not taken up; its lock will expire");
    }
  }
}

async function recoverOne(context: RecoverContext, carrier: Pick<Carrier, "carryOn">, entry: SpoolEntry): Promise<void> {
  const { id, queue, token, claim: number } = entry.claim;
  const claim = await context.queues.adopt({ id, queue, token, claim: number });
  if (claim !== null) return void carrier.carryOn(claim, entry);
  await context.spool.removeUnfinished(id, number);
  context.log.info({ job: id, claim: number, outputs: entry.complete !== null }, "a claim of an earlier daemon is no longer ours");
}
