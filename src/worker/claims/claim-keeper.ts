import { sleep as realSleep, type Sleep } from "../../lib/backoff.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import type { Claim } from "../../queue/queue-types.ts";
import { jobLogger } from "../../telemetry/logger.ts";
import type { WorkerContext } from "../worker-context.ts";
import { HeldJob } from "./held-job.ts";

/** Locks are renewed three times within their life, so that two lost renewals do not lose the claim. */
const RENEWALS_PER_LOCK = 3;

/**
 * Keeps the locks of all held jobs: one renewal for all of them, three times within a lock's life, and with it a look at the cancel
 * marks. A lock found lost is taken up again if nobody else has claimed the job meanwhile (Redis was away); else the job is aborted.
 */
export class ClaimKeeper {
  readonly #context: Pick<WorkerContext, "config" | "log" | "metrics" | "queues" | "requests">;
  readonly #sleep: Sleep;
  /** By token: a job that comes back while its earlier claim is still being wound up is held twice. */
  readonly #held = new Map<string, HeldJob>();
  #closed: AppError | null = null;

  constructor(
    context: Pick<WorkerContext, "config" | "log" | "metrics" | "queues" | "requests">,
    options: { readonly sleep?: Sleep } = {},
  ) {
    this.#context = context;
    this.#sleep = options.sleep ?? realSleep;
  }

  get jobs(): readonly HeldJob[] {
    return [...this.#held.values()];
  }

  holds(id: string): boolean {
    return this.jobs.some((job) => job.id === id);
  }

  /** From here on the claim's lock is renewed, until the job is disposed. Only `carry` holds jobs. */
  hold(claim: Claim): HeldJob {
    const log = jobLogger(this.#context.log, { job: claim.id, model: claim.queue, claim: claim.claim });
    const job = new HeldJob(claim, { log, onRelease: (released) => this.#held.delete(released.claim.token) });
    this.#held.set(claim.token, job);
    if (this.#closed !== null) job.abort(this.#closed);
    return job;
  }

  /** Aborts all jobs that are held, and all that will be. */
  close(reason: AppError): void {
    this.#closed = reason;
    for (const job of this.jobs) job.abort(reason);
  }

  cancel(id: string): void {
    for (const job of this.jobs) if (job.id === id) job.abort(new AppError("CANCELLED", `job ${id} was cancelled by its client`));
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const everyMs = Math.floor(this.#context.config.lockMs / RENEWALS_PER_LOCK);
    while (!signal.aborted) {
      await this.#sleep(everyMs, signal).catch(() => undefined);
      if (!signal.aborted) await this.renew();
    }
  }

  /** Also called when an event was refused for its lock, so that a loss is known at once. */
  async renew(): Promise<void> {
    const jobs = this.jobs;
    if (jobs.length === 0) return;
    try {
      const [lost, cancelled] = await Promise.all([
        this.#context.queues.renew(jobs.map((job) => job.claim)),
        this.#context.requests.cancelledAmong(jobs.map((job) => job.id)),
      ]);
      await Promise.all(lost.map((ref) => this.#recover(ref.token)));
      for (const id of cancelled) this.cancel(id);
    } catch (thrown) {
      this.#context.log.warn({ err: asAppError(thrown), jobs: jobs.length }, "locks could not be renewed; tried again");
    }
  }

  async #recover(token: string): Promise<void> {
    const job = this.#held.get(token);
    if (job === undefined) return;
    if ((await this.#context.queues.adopt(job.claim)) !== null) {
      job.log.warn("the lock had expired and was taken up again; nobody else had claimed the job");
      return;
    }
    // Released meanwhile: it ended, and its lock with it.
    if (!this.#held.has(token)) return;
    this.#context.metrics.lockLosses.inc({ model: job.model });
    const text = `the lock of job ${job.id}, claim ${job.claim.claim}, was lost: another worker may hold the job now`;
    job.abort(new AppError("LOCK_LOST", text));
  }
}
