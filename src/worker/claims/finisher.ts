import { decideOutcome, type ClaimEnd, type JobOutcome } from "../../core/job-outcome.ts";
import { backoffDelayMs, sleep, type BackoffPolicy } from "../../lib/backoff.ts";
import { AppError, asAppError, ERROR_TABLE, toErrorData, type ErrorData } from "../../protocol/error.ts";
import type { JobEventDraft } from "../../protocol/event.ts";
import { RESULT_VERSION, type JobResult } from "../../protocol/result.ts";
import type { ClaimKeeper } from "./claim-keeper.ts";
import type { HeldJob } from "./held-job.ts";
import type { CompleteRecord } from "../spool/spool-record.ts";
import type { SpoolClaim } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";

const REDIS_BACKOFF: BackoffPolicy = { firstMs: 100, factor: 2, maxMs: 5_000, jitter: 0.5 };

/** What the finisher must know of a failed claim beyond the error: see `ClaimEnd`. */
export type FailureFacts = Pick<ClaimEnd, "wasAlone" | "deviceBlamed" | "crashClaims">;

/**
 * Ends claims. Every path runs to exactly one verb on the queue, repeated while Redis is away; afterwards the terminal event goes out, the
 * spool folder is removed and the lock is let go of.
 *
 * spool -> upload -> complete, and a crash between any two of them repeats only what comes after: the outputs are in the spool until the
 * job is completed, object keys carry the claim number, and completing needs the lock.
 */
export class Finisher {
  readonly #context: WorkerContext;
  readonly #keeper: ClaimKeeper;
  readonly #storing = new Set<Promise<void>>();
  /** Objects of earlier claims on their way out of the store, after the end of their job. */
  readonly #tidying = new Set<Promise<void>>();

  constructor(context: WorkerContext, keeper: ClaimKeeper) {
    this.#context = context;
    this.#keeper = keeper;
  }

  /** Claims whose outputs are whole and not stored yet. */
  get storing(): number {
    return this.#storing.size;
  }

  /** Uploads and completes in the background: the device goes on with other work meanwhile. */
  store(job: HeldJob, entry: SpoolClaim, record: CompleteRecord): void {
    const work = this.#store(job, entry, record).finally(() => this.#storing.delete(work));
    this.#storing.add(work);
  }

  /** Resolves when nothing is on its way to or from the store. */
  async idle(): Promise<void> {
    while (this.#storing.size + this.#tidying.size > 0) await Promise.all([...this.#storing, ...this.#tidying]);
  }

  async #store(job: HeldJob, entry: SpoolClaim, record: CompleteRecord): Promise<void> {
    this.#keeper.stopClock(job);
    try {
      const startedAt = performance.now();
      const { id, signal } = job;
      const files = await this.#context.uploader.upload({
        id,
        claim: job.claim.claim,
        outDir: entry.outDir,
        files: record.files,
        signal,
      });
      const uploadMs = performance.now() - startedAt;
      this.#context.metrics.stageSeconds.observe({ model: job.data.model, stage: "upload" }, uploadMs / 1_000);
      await this.#complete(job, {
        v: RESULT_VERSION,
        files,
        claim: job.claim.claim,
        seed: record.seed,
        timings: { ...record.timings, uploadMs: Math.round(uploadMs) },
        info: record.info,
        ...(record.text === undefined ? {} : { text: record.text }),
        worker: this.#context.config.workerName,
        device: record.device,
        finishedAt: Date.now(),
      });
    } catch (thrown) {
      await this.fail(job, thrown, { wasAlone: true, deviceBlamed: false, crashClaims: 0 });
    }
  }

  async #complete(job: HeldJob, result: JobResult): Promise<void> {
    await this.#withRedis(job, () => this.#context.queues.complete(job.claim, result));
    await this.#end(job, { type: "done", progress: 100 }, "completed");
    await this.#forget(job);
    this.#tidy(job);
    const { runMs, encodeMs, uploadMs } = result.timings;
    // For estimates alone.
    this.#context.runTimes.learn(job.data.model, runMs + encodeMs + uploadMs).catch(() => undefined);
    job.log.info({ timings: result.timings, files: result.files.length, info: result.info }, "job completed");
  }

  /**
   * Ends a claim that failed, was cancelled or is given back, as `decideOutcome` says. Returns the outcome when it is `rerun-alone`: then
   * the claim is still held and the caller reruns it; null when the claim has ended.
   */
  async fail(job: HeldJob, thrown: unknown, facts: FailureFacts): Promise<Extract<JobOutcome, { kind: "rerun-alone" }> | null> {
    const error = job.abortReason ?? asAppError(thrown);
    try {
      const outcome = decideOutcome(await this.#claimEnd(job, error, facts), { random: Math.random });
      if (outcome.kind === "rerun-alone") return outcome;
      await this.#apply(job, outcome, error);
    } catch (again) {
      // Only a lost lock gets here: everything else is repeated until it holds.
      await this.#apply(job, { kind: "abandon" }, asAppError(again));
    }
    return null;
  }

  async #claimEnd(job: HeldJob, error: AppError, facts: FailureFacts): Promise<ClaimEnd> {
    const preemptedNow = job.abortReason?.code === "CAPACITY_UNAVAILABLE";
    const { passed, others } = await this.#withRedis(job, async () => ({
      passed: await this.#context.ledger.passedOnBy(job.id),
      others: await this.#context.registry.list(),
    }));
    const me = this.#context.config.workerName;
    const now = others.filter((other) => other.worker !== me && !other.draining && other.models.includes(job.data.model));
    return {
      ...facts,
      error: toErrorData(error),
      attemptsMade: job.claim.attemptsMade,
      maxAttempts: this.#context.config.maxAttempts,
      passedOn: passed.size,
      otherLiveWorkers: now.some((other) => !passed.has(other.worker)),
      afterEviction: job.afterEviction,
      cancelled: job.abortReason?.code === "CANCELLED",
      preempted: preemptedNow,
    };
  }

  async #apply(job: HeldJob, outcome: JobOutcome, error: AppError): Promise<void> {
    const { queues, ledger, config, metrics } = this.#context;
    switch (outcome.kind) {
      case "complete":
      case "rerun-alone":
        throw new AppError("INTERNAL", `a failed claim cannot end as ${outcome.kind}; this is a bug`);
      case "abandon":
        job.log.warn({ err: error }, "claim given up: its lock is lost; another worker has the job, or will");
        metrics.jobs.inc({ model: job.data.model, end: "lost" });
        this.#keeper.release(job);
        if (!(await this.#hasOutputs(job))) await this.#forget(job);
        return;
      case "cancelled":
        await this.#failFinally(job, toErrorData(new AppError("CANCELLED", `job ${job.id} was cancelled by its client`)), "cancelled");
        return;
      case "fail":
        await this.#failFinally(job, outcome.error, "failed");
        return;
      case "retry":
        await this.#withRedis(job, () => queues.retry(job.claim, outcome.error, outcome.delayMs));
        await this.#requeued(job, outcome.error.code, outcome.error, outcome.delayMs);
        return;
      case "pass-on":
        await this.#withRedis(job, async () => {
          await ledger.recordPassOn(job.id, config.workerName);
          await queues.passOn(job.claim, outcome.delayMs);
        });
        await this.#requeued(job, "pass-on", outcome.error, outcome.delayMs);
        return;
      case "hand-back":
        // Outputs that are whole stay: a restarted daemon takes the claim up again and stores them (see recover-claims.ts).
        if (await this.#hasOutputs(job)) {
          this.#keeper.release(job);
          job.log.info("the job's outputs wait in the spool for the next start of this daemon");
          return;
        }
        await this.#withRedis(job, () => queues.handBack(job.claim));
        await this.#requeued(job, "hand-back", toErrorData(error), 0);
    }
  }

  async #failFinally(job: HeldJob, error: ErrorData, end: "failed" | "cancelled"): Promise<void> {
    await this.#withRedis(job, () => this.#context.queues.fail(job.claim, error));
    const errorMessage = ERROR_TABLE[error.code].publicText;
    await this.#end(job, { type: "error", progress: 0, errorCode: error.code, errorMessage }, end);
    await this.#forget(job);
    this.#tidy(job);
    job.log[end === "failed" ? "error" : "info"]({ error }, `job ${end}`);
  }

  async #requeued(job: HeldJob, reason: string, error: ErrorData, delayMs: number): Promise<void> {
    this.#context.metrics.jobRetries.inc({ reason });
    await this.#end(job, { type: "requeued", progress: 0 }, "requeued");
    await this.#forget(job);
    job.log.warn({ error, delayMs, reason }, "job put back into its queue");
  }

  /** The terminal event, after the queue's verb has succeeded. Losing it is no harm: status is derived from the queue. */
  async #end(job: HeldJob, draft: Omit<JobEventDraft, "id" | "claim">, end: string): Promise<void> {
    const { metrics, emitter } = this.#context;
    this.#keeper.release(job);
    metrics.jobs.inc({ model: job.data.model, end });
    metrics.jobSeconds.observe({ model: job.data.model, end }, (Date.now() - job.claimedAt) / 1_000);
    const { queue, claim } = job.claim;
    try {
      await emitter.emitEnd({ id: job.id, queue, claim, client: job.data.client }, { ...draft, id: job.id, claim });
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "the job's terminal event was not published; its status tells");
    }
  }

  #tidy({ id, claim: { claim } }: HeldJob): void {
    if (claim <= 1) return;
    const work = this.#context.uploader.removeEarlier(id, claim).finally(() => this.#tidying.delete(work));
    this.#tidying.add(work);
  }

  async #forget(job: HeldJob): Promise<void> {
    try {
      await this.#context.spool.remove(job.id);
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "the job's spool folder was not removed; housekeeping will");
    }
  }

  async #hasOutputs(job: HeldJob): Promise<boolean> {
    return (await this.#context.spool.findComplete(job.id)) !== null;
  }

  /**
   * Repeats a step until Redis answers. When the answer is that the lock is lost, it may be that an earlier try succeeded and only its
   * answer was lost, or that the lock merely expired during the outage: both are looked at before it counts.
   * @throws AppError LOCK_LOST
   */
  async #withRedis<T>(job: HeldJob, step: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await step();
      } catch (thrown) {
        const error = asAppError(thrown);
        if (error.code === "LOCK_LOST") {
          if (tries > 1 && (await this.#endedByUs(job))) return undefined as T;
          if (tries > 3 || (await this.#context.queues.adopt(job.claim).catch(() => null)) === null) throw error;
          continue;
        }
        if (error.code !== "REDIS_UNAVAILABLE") job.log.error({ err: error, tries }, "ending a claim failed unexpectedly; tried again");
        await sleep(backoffDelayMs(REDIS_BACKOFF, tries, Math.random));
      }
    }
  }

  async #endedByUs(job: HeldJob): Promise<boolean> {
    const view = await this.#context.queues.job(job.claim.queue, job.id).catch(() => null);
    return view !== null && view.state !== "active" && view.claim === job.claim.claim;
  }
}
