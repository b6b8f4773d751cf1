import type { AppError } from "../../protocol/error.ts";
import { handedBack } from "./held-job.ts";

/** How the waiting jobs of one model are claimed and ended. */
export interface UnservableJobs<Claim extends { readonly id: string }> {
  /** Ids of waiting jobs that no live worker could run for as long as a job may wait. */
  due(): Promise<readonly string[]>;
  /** The next job of the queue, null when none waits. */
  claim(): Promise<Claim | null>;
  /** Holds the claim until it is known why it ends, then settles it. Never rejects. */
  end(claim: Claim, why: Promise<AppError>): Promise<void>;
}

/** Claims beyond the jobs that are due, in one call: younger jobs may stand before them. */
const MAX_YOUNGER = 100;

/**
 * Ends the jobs of a model that no live worker can load, each with `error`, once they have waited long enough. A queue gives its jobs in its
 * own order, so that younger ones of a higher priority may come first: they go back to where they were. Returns how many were ended.
 * @throws AppError REDIS_UNAVAILABLE; the claims that it held are handed back then
 */
export async function endUnservable<Claim extends { readonly id: string }>(jobs: UnservableJobs<Claim>, error: AppError): Promise<number> {
  const due = new Set(await jobs.due());
  const most = due.size + MAX_YOUNGER;
  const younger = Promise.withResolvers<AppError>();
  const goBack: Promise<void>[] = [];
  let ended = 0;
  try {
    for (let claims = 0; due.size > 0 && claims < most; claims += 1) {
      const claim = await jobs.claim();
      if (claim === null) break;
      if (due.delete(claim.id)) {
        await jobs.end(claim, Promise.resolve(error));
        ended += 1;
      } else {
        goBack.push(jobs.end(claim, younger.promise));
      }
    }
  } finally {
    // Not before: they would be claimed again at once.
    younger.resolve(handedBack("no worker can load its model, and it has not waited long enough to fail for it"));
    await Promise.all(goBack);
  }
  return ended;
}
