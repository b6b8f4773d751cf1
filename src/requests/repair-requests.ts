import { asAppError, type AppError } from "../protocol/error.ts";
import type { Queues } from "../queue/queue-types.ts";
import type { RequestIndex } from "../state/open-request-index.ts";
import type { Requests } from "../state/state-types.ts";
import { addOptionsOf, jobOf } from "./submit-job.ts";

export interface RepairDeps {
  readonly requests: Pick<Requests, "get" | "now">;
  readonly queues: Pick<Queues, "add" | "job">;
  readonly index: Pick<RequestIndex, "unqueued" | "queued" | "lookLater">;
  /** Told of a request that cannot be repaired here; it is tried again the next time. */
  readonly onError: (id: string, error: AppError) => void;
}

/** Younger records may still be on their way into the queue. */
const MIN_AGE_MS = 15_000;
const MOST_AT_ONCE = 500;
const UNREADABLE_AGAIN_MS = 600_000;

/**
 * Adds the jobs of requests whose record was written and whose submitter died before the add. Adding is idempotent by the id, so that two
 * gateways may do it at the same time. Returns how many jobs were missing. @throws AppError REDIS_UNAVAILABLE
 */
export async function repairRequests(deps: RepairDeps): Promise<number> {
  const now = await deps.requests.now();
  const ids = await deps.index.unqueued(now - MIN_AGE_MS, MOST_AT_ONCE);
  let repaired = 0;
  for (const id of ids) {
    try {
      if (await repair(deps, id)) repaired += 1;
      deps.index.queued(id);
    } catch (thrown) {
      const error = asAppError(thrown);
      if (error.code === "REDIS_UNAVAILABLE") throw error;
      // One that only a newer program can read must not keep the others waiting, nor take their place at the next look.
      if (error.code === "RECORD_UNREADABLE") await deps.index.lookLater(id, now + UNREADABLE_AGAIN_MS);
      deps.onError(id, error);
    }
  }
  return repaired;
}

async function repair({ requests, queues }: RepairDeps, id: string): Promise<boolean> {
  const record = await requests.get(id);
  // No record: the crash came before it, and the client got no id. A cancelled request needs no job any more.
  if (record === null || record.cancelledAt !== null || (await queues.job(record.queue, id)) !== null) return false;
  await queues.add(jobOf(record), addOptionsOf(record));
  return true;
}
