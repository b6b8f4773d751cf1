import type { AppError } from "../../protocol/error.ts";

/** How the waiting jobs of one model are claimed and ended; a job is whatever the other verbs take. */
export interface UnservableJobs<Job extends { readonly id: string }> {
  /** Ids of waiting jobs that no live worker could run for as long as a job may wait. */
  due(): Promise<readonly string[]>;
  /** The next job of the queue. `dealt-with`: the claim has ended by itself (cancelled meanwhile, stalled too often); null: none waits. */
  claim(): Promise<Job | "dealt-with" | null>;
  fail(job: Job, error: AppError): Promise<void>;
  /** To the front of its queue, no attempt spent. */
  handBack(job: Job): Promise<void>;
}

/** Claims beyond the jobs that are due, in one call: younger jobs may stand before them. */
const MAX_YOUNGER = 100;

/**
 * Ends the jobs of a model that no live worker can load, each with `error`, once they have waited long enough. A queue gives its jobs in its
 * own order, so that younger ones of a higher priority may come first: they go back to where they were. Returns how many ended.
 * @throws AppError REDIS_UNAVAILABLE; the claims that it held are handed back or ended then
 */
export async function endUnservable<Job extends { readonly id: string }>(jobs: UnservableJobs<Job>, error: AppError): Promise<number> {
  const due = new Set(await jobs.due());
  const younger: Job[] = [];
  const most = due.size + MAX_YOUNGER;
  let ended = 0;
  try {
    for (let claims = 0; due.size > 0 && claims < most; claims += 1) {
      const job = await jobs.claim();
      if (job === null) break;
      if (job === "dealt-with") continue;
      if (due.delete(job.id)) {
        await jobs.fail(job, error);
        ended += 1;
      } else {
        younger.push(job);
      }
    }
  } finally {
    // The newest claim first, so that they stand in their old order.
    for (const job of younger.toReversed()) await jobs.handBack(job);
  }
  return ended;
}
