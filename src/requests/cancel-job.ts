import { AppError, ERROR_TABLE } from "../protocol/error.ts";
import type { RequestRecord } from "../protocol/request.ts";
import type { Queues } from "../queue/queue-types.ts";
import type { CancelChannel, Emitter, LiveValue, Requests } from "../state/state-types.ts";

export interface CancelDeps {
  readonly requests: Pick<Requests, "get" | "markCancelled">;
  readonly queues: Pick<Queues, "removeQueued">;
  readonly cancels: Pick<CancelChannel, "nudge">;
  readonly emitter: Pick<Emitter, "emitEnd">;
  readonly readLive: (id: string) => Promise<LiveValue | null>;
}

/**
 * Cancels a request. The mark comes first: from then on the request is cancelled whatever happens next. A waiting job is taken out of its
 * queue and its end is told, which nobody else would; for one that a worker holds, the worker is told.
 * @returns what it was: `removed` never starts, `active` ends within the worker's grace, `gone` had ended before
 * @throws AppError REQUEST_UNKNOWN when there is no such request
 */
export async function cancelJob(deps: CancelDeps, id: string): Promise<"removed" | "active" | "gone"> {
  const record = await deps.requests.get(id);
  if (record === null || !(await deps.requests.markCancelled(id))) {
    throw new AppError("REQUEST_UNKNOWN", `request ${id} is not known; it was never submitted here, or its retention is over`);
  }
  const was = await deps.queues.removeQueued(record.queue, id);
  if (was === "active") await deps.cancels.nudge(id);
  // Losing the event is no harm: the status tells.
  if (was === "removed") await tellEnd(deps, record).catch(() => undefined);
  return was;
}

/** A job that was taken back from a worker has had claims: the end is told as the last one's. */
async function tellEnd(deps: CancelDeps, { id, queue, client }: RequestRecord): Promise<void> {
  const claim = (await deps.readLive(id))?.event.claim ?? 0;
  const errorMessage = ERROR_TABLE.CANCELLED.publicText;
  await deps.emitter.emitEnd({ id, queue, claim, client }, { id, claim, type: "error", progress: 0, errorCode: "CANCELLED", errorMessage });
}
