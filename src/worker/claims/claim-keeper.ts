import { sleep } from "../../lib/backoff.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import type { ClaimRef } from "../../queue/queue-types.ts";
import type { HeldJob } from "./held-job.ts";
import type { WorkerContext } from "../worker-context.ts";

/** Locks are renewed three times within their life, so that two lost renewals do not lose the claim. */
const RENEWALS_PER_LOCK = 3;

/**
 * Keeps the locks of all held jobs: one renewal for all of them, three times within a lock's life, and with it a look at the cancel
 * marks. A lock found lost is taken up again if nobody else has claimed the job meanwhile (Redis was away); else the job is aborted.
 * Also holds each job to its time limit.
 */
export class ClaimKeeper {
  readonly #context: WorkerContext;
  readonly #held = new Map<string, HeldJob>();
  readonly #deadlines = new Map<string, NodeJS.Timeout>();
  /** Milliseconds; of the last renewal that Redis answered. */
  renewedAt: number = Date.now();

  constructor(context: WorkerContext) {
    this.#context = context;
  }

  get jobs(): readonly HeldJob[] {
    return [...this.#held.values()];
  }

  get(id: string): HeldJob | undefined {
    return this.#held.get(id);
  }

  add(job: HeldJob): void {
    this.#held.set(job.id, job);
  }

  /** From now on its lock is not renewed. */
  release(job: HeldJob): void {
    if (this.#held.get(job.id) !== job) return;
    this.#held.delete(job.id);
    this.#clearDeadline(job.id);
  }

  /** Starts the job's clock: aborts it with JOB_TIMEOUT when its time limit, counted from its first dispatch ever, is over. */
  startClock(job: HeldJob, startedAt: number): void {
    job.startedAt = startedAt;
    this.#clearDeadline(job.id);
    const leftMs = Math.max(0, startedAt + job.data.timeoutMs - Date.now());
    const timer = setTimeout(
      () => {
        const text = `job ${job.id} took longer than its time limit of ${job.data.timeoutMs} ms, counted from its first start`;
        job.abort(new AppError("JOB_TIMEOUT", text));
      },
      Math.min(leftMs, 2 ** 31 - 1),
    );
    this.#deadlines.set(job.id, timer);
  }

  /** Its work is done: what is left (upload, finish) may take as long as an outage lasts. */
  stopClock(job: HeldJob): void {
    this.#clearDeadline(job.id);
  }

  cancel(id: string): void {
    this.#held.get(id)?.abort(new AppError("CANCELLED", `job ${id} was cancelled by its client`));
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const everyMs = Math.floor(this.#context.config.lockMs / RENEWALS_PER_LOCK);
    while (!signal.aborted) {
      await sleep(everyMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.renew();
    }
  }

  /** Also called when an event was refused for its lock, so that a loss is known at once. */
  async renew(): Promise<void> {
    const jobs = this.jobs;
    if (jobs.length === 0) {
      this.renewedAt = Date.now();
      return;
    }
    try {
      const [lost, cancelled] = await Promise.all([
        this.#context.queues.renew(jobs.map((job) => job.claim)),
        this.#context.requests.cancelledAmong(jobs.map((job) => job.id)),
      ]);
      this.renewedAt = Date.now();
      await Promise.all(lost.map((ref) => this.#recover(ref)));
      for (const id of cancelled) this.cancel(id);
    } catch (thrown) {
      this.#context.log.warn({ err: asAppError(thrown), jobs: jobs.length }, "locks could not be renewed; tried again");
    }
  }

  async #recover(ref: ClaimRef): Promise<void> {
    const job = this.#held.get(ref.id);
    if (job?.claim.token !== ref.token) return;
    if ((await this.#context.queues.adopt(ref)) !== null) {
      job.log.warn("the lock had expired and was taken up again; nobody else had claimed the job");
      return;
    }
    // Released meanwhile: it ended, and its lock with it.
    if (this.#held.get(ref.id) !== job) return;
    this.#context.metrics.lockLosses.inc({ model: job.data.model });
    job.abort(new AppError("LOCK_LOST", `the lock of job ${job.id}, claim ${ref.claim}, was lost: another worker may hold the job now`));
  }

  #clearDeadline(id: string): void {
    clearTimeout(this.#deadlines.get(id));
    this.#deadlines.delete(id);
  }
}
