import type { AppError } from "../../protocol/error.ts";
import type { Queues } from "../../queue/queue-types.ts";
import type { Carrier } from "./carrier.ts";
import { handedBack } from "./held-job.ts";

export interface EndUnservableParts {
  readonly queues: Pick<Queues, "claim">;
  readonly carrier: Pick<Carrier, "endWith">;
}

/** Claims beyond the jobs that are due, in one call: younger jobs may stand before them. */
const MAX_YOUNGER = 100;

/**
 * Ends the jobs of a model that no live worker can load, each with `error`, once they have waited long enough (`due`, their ids). A queue
 * gives its jobs in its own order, so that younger ones of a higher priority may come first: they go back to where they were. Returns how
 * many were due. @throws AppError REDIS_UNAVAILABLE; what was claimed until then is settled all the same
 */
export async function endUnservable(
  { queues, carrier }: EndUnservableParts,
  model: string,
  { due, error }: { readonly due: readonly string[]; readonly error: AppError },
): Promise<number> {
  const left = new Set(due);
  const looked = Promise.withResolvers<AppError>();
  const younger: Promise<void>[] = [];
  try {
    for (let claims = 0; left.size > 0 && claims < due.length + MAX_YOUNGER; claims += 1) {
      const claim = await queues.claim(model);
      if (claim === null) break;
      if (left.delete(claim.id)) await carrier.endWith(claim, error);
      else younger.push(carrier.endWith(claim, looked.promise));
    }
  } finally {
    looked.resolve(handedBack("no worker can load its model, and it has not waited long enough to fail for it"));
    await Promise.all(younger);
  }
  return due.length - left.size;
}
