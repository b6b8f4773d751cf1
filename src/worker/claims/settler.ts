import { decideOutcome, mayConcernOthers, NO_FAULTS, type ClaimEnd, type ClaimOutcome, type FaultCount } from "../../core/job-outcome.ts";
import type { JobView } from "../../core/job-state.ts";
import { backoffDelayMs, sleep as realSleep, type BackoffPolicy, type Sleep } from "../../lib/backoff.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { AppError, asAppError, ERROR_TABLE, publicMessage, toErrorData, type ErrorCode, type ErrorData } from "../../protocol/error.ts";
import type { JobEventDraft } from "../../protocol/event.ts";
import type { JobResult } from "../../protocol/result.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { CompleteEntry } from "../spool/spool.ts";
import type { HeldJob } from "./held-job.ts";

const REDIS_BACKOFF: BackoffPolicy = { firstMs: 100, factor: 2, maxMs: 5_000, jitter: 0.5 };
/** Locks that were found lost in the middle of a verb and taken up again: more than this is no outage any more. */
const MAX_LOSSES = 3;
/** Answers of Redis that are neither an outage nor a lost lock, to one verb: then the job is damaged there, and no try will help. */
const MAX_REFUSALS = 10;
/** How long a job that this worker has passed on waits for another one. */
const NOT_HERE_DELAY_MS = 2_000;

/** What a claim has come to, as the one that carries it says. */
export type Ending =
  /** The result's files are in the store. */
  | { readonly kind: "done"; readonly result: JobResult }
  /** It is for another worker, see `admit`. */
  | { readonly kind: "not-here" }
  | { readonly kind: "failed"; readonly error: AppError; readonly deviceBlamed: boolean; readonly faults: FaultCount };

export function failedWith(thrown: unknown): Ending {
  return { kind: "failed", error: asAppError(thrown), deviceBlamed: false, faults: NO_FAULTS };
}

type SettlerContext = Pick<WorkerContext, "config" | "emitter" | "ledger" | "log" | "metrics" | "queues" | "registry" | "spool">;

/** One verb on the queue, and the state of the job that proves that an unanswered earlier try of it has succeeded. */
interface Verb {
  readonly act: () => Promise<void>;
  readonly proof: (job: JobView) => boolean;
}

/**
 * Settles claims: every ending becomes exactly one verb on the queue, repeated while Redis is away. Then the event of the end goes out
 * and the claim's folder leaves the spool. When `stop` aborts, what has not been settled is left to its lock: it expires, and another
 * worker takes the job; whole outputs stay in the spool for this host's next claim of it.
 */
export class Settler {
  readonly #context: SettlerContext;
  readonly #stop: AbortSignal;
  readonly #sleep: Sleep;
  readonly #random: () => number;

  constructor(context: SettlerContext, options: { readonly stop: AbortSignal; readonly sleep?: Sleep; readonly random?: () => number }) {
    this.#context = context;
    this.#stop = options.stop;
    this.#sleep = options.sleep ?? realSleep;
    this.#random = options.random ?? Math.random;
  }

  /** Never rejects. True when the job has ended: completed, failed or cancelled by this claim. */
  async settle(job: HeldJob, ending: Ending): Promise<boolean> {
    try {
      if (ending.kind === "done") return await this.#complete(job, ending.result);
      if (ending.kind === "not-here") return await this.#leave(job);
      return await this.#apply(job, decideOutcome(await this.#claimEnd(job, ending), { random: this.#random }));
    } catch (thrown) {
      await this.#abandon(job, asAppError(thrown));
      return false;
    }
  }

  async #complete(job: HeldJob, result: JobResult): Promise<boolean> {
    await this.#until(job, {
      act: () => this.#context.queues.complete(job.claim, result),
      proof: ({ state, result: stored }) => state === "completed" && stored?.claim === result.claim,
    });
    const main = result.files.find(({ role }) => role === "main");
    const where = main === undefined ? {} : { result: { name: main.name, key: main.key, createdAt: job.data.submittedAt } };
    await this.#told(job, "completed", { type: "done", progress: 100, ...where });
    await this.#clear(job, () => this.#context.spool.removeUpTo(job.id, job.claim.claim));
    job.log.info({ timings: result.timings, files: result.files.length, info: result.info }, "job completed");
    return true;
  }

  async #leave(job: HeldJob): Promise<false> {
    await this.#until(job, this.#delayBy(job, NOT_HERE_DELAY_MS));
    job.release();
    return false;
  }

  async #apply(job: HeldJob, outcome: ClaimOutcome): Promise<boolean> {
    switch (outcome.kind) {
      case "abandon":
        throw job.abortReason ?? new AppError("LOCK_LOST", `the lock of job ${job.id} was lost`);
      case "cancelled":
        return this.#fail(job, toErrorData(new AppError("CANCELLED", `job ${job.id} was cancelled by its client`)), "cancelled");
      case "fail":
        return this.#fail(job, outcome.error, "failed");
      case "retry":
        return this.#retry(job, outcome.error, outcome.delayMs);
      case "pass-on":
        return this.#delay(job, "pass-on", outcome);
      case "postpone":
        return this.#delay(job, "postpone", outcome);
      case "hand-back":
        return this.#handBack(job, outcome.error);
    }
  }

  async #fail(job: HeldJob, error: ErrorData, end: "failed" | "cancelled"): Promise<boolean> {
    const { claim } = job.claim;
    await this.#until(job, {
      act: () => this.#context.queues.fail(job.claim, error),
      proof: (view) => view.state === "failed" && view.claim === claim,
    });
    if (end === "failed") this.#context.metrics.jobFailures.inc({ code: error.code, blame: ERROR_TABLE[error.code].blame });
    const about = error.field === undefined ? {} : { errorField: error.field };
    await this.#told(job, end, { type: "error", progress: 0, errorCode: error.code, errorMessage: publicMessage(error), ...about });
    await this.#clear(job, () => this.#context.spool.removeUpTo(job.id, claim));
    job.log[end === "failed" ? "error" : "info"]({ error }, `job ${end}`);
    return true;
  }

  async #retry(job: HeldJob, error: ErrorData, delayMs: number): Promise<boolean> {
    const { claim, attemptsMade } = job.claim;
    await this.#until(job, {
      act: () => this.#context.queues.retry(job.claim, error, delayMs),
      proof: (view) => isQueued(view) && view.claim === claim && view.attemptsMade === attemptsMade + 1,
    });
    return this.#requeued(job, error.code, error, delayMs);
  }

  async #delay(
    job: HeldJob,
    reason: "pass-on" | "postpone",
    { error, delayMs }: { readonly error: ErrorData; readonly delayMs: number },
  ): Promise<boolean> {
    const verb = this.#delayBy(job, delayMs);
    const { ledger, config } = this.#context;
    const passOn = (): Promise<void> => ledger.recordPassOn(job.id, config.workerName).then(verb.act);
    await this.#until(job, reason === "pass-on" ? { ...verb, act: passOn } : verb);
    return this.#requeued(job, reason, error, delayMs);
  }

  #delayBy(job: HeldJob, delayMs: number): Verb {
    const { claim } = job.claim;
    return {
      act: () => this.#context.queues.delay(job.claim, delayMs),
      proof: (view) => isQueued(view) && view.claim === claim,
    };
  }

  async #handBack(job: HeldJob, error: ErrorData): Promise<boolean> {
    const { claim } = job.claim;
    const whole = await this.#wholeOutputs(job);
    // Outputs that this claim has made stay: a restarted daemon takes the claim up again and stores them (see recover-claims.ts).
    if (whole?.claim.claim === claim) {
      job.release();
      job.log.info("the job's outputs wait in the spool for the next start of this daemon");
      return false;
    }
    await this.#until(job, {
      act: () => this.#context.queues.handBack(job.claim),
      // A stalled check that was faster did the same.
      proof: (view) => view.state === "waiting" && view.claim === claim,
    });
    return this.#requeued(job, "hand-back", error, 0);
  }

  /** A disk that does not answer keeps no job from its queue. */
  async #wholeOutputs(job: HeldJob): Promise<CompleteEntry | null> {
    try {
      return await this.#context.spool.findComplete(job.id);
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "the job's outputs were not looked for");
      return null;
    }
  }

  async #claimEnd(job: HeldJob, { error, deviceBlamed, faults }: Extract<Ending, { kind: "failed" }>): Promise<ClaimEnd> {
    const { claim, attemptsMade } = job.claim;
    const { maxAttempts } = this.#context.config;
    const known = { error: toErrorData(error), attemptsMade, maxAttempts, earlierClaims: claim - 1, deviceBlamed, faults };
    return { ...known, ...(mayConcernOthers(known) ? await this.#others(job) : { passedOn: 0, otherLiveWorkers: false }) };
  }

  async #others(job: HeldJob): Promise<Pick<ClaimEnd, "passedOn" | "otherLiveWorkers">> {
    let passed: ReadonlySet<string> = new Set();
    let serving: readonly string[] = [];
    const act = async (): Promise<void> => {
      passed = await this.#context.ledger.passedOnBy(job.id);
      serving = await servingWorkers(this.#context, job.model);
    };
    await this.#until(job, { act, proof: () => false });
    const me = this.#context.config.workerName;
    return { passedOn: passed.size, otherLiveWorkers: serving.some((name) => name !== me && !passed.has(name)) };
  }

  async #requeued(
    job: HeldJob,
    reason: ErrorCode | "pass-on" | "postpone" | "hand-back",
    error: ErrorData,
    delayMs: number,
  ): Promise<false> {
    this.#context.metrics.jobRetries.inc({ reason });
    await this.#told(job, "requeued", { type: "requeued", progress: 0 });
    const { spool } = this.#context;
    const { claim } = job.claim;
    // Whole outputs of an earlier claim outlast a hand-back: this host's next claim stores them.
    await this.#clear(job, () => (reason === "hand-back" ? spool.removeUnfinished(job.id, claim) : spool.removeUpTo(job.id, claim)));
    job.log.warn({ error, delayMs, reason }, "job put back into its queue");
    return false;
  }

  /** After the verb: the event of the end. Losing it is no harm: status comes from the queue. */
  async #told(
    job: HeldJob,
    end: "completed" | "failed" | "cancelled" | "requeued",
    draft: Omit<JobEventDraft, "id" | "claim">,
  ): Promise<void> {
    const { metrics, emitter } = this.#context;
    job.release();
    metrics.jobs.inc({ model: job.model, end });
    metrics.jobSeconds.observe({ model: job.model, end }, (steadyNow() - job.heldSince) / 1_000);
    const { id, queue, claim } = job.claim;
    try {
      await emitter.emitEnd({ id, queue, claim, client: job.data.client }, { ...draft, id, claim });
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "the job's terminal event was not published; its status tells");
    }
  }

  async #clear(job: HeldJob, removal: () => Promise<void>): Promise<void> {
    try {
      await removal();
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "the claim's spool folder was not removed; housekeeping will");
    }
  }

  /** The claim is not ours any more, the daemon ends before Redis answers, or Redis does not take its end: nothing is told, whole outputs stay. */
  async #abandon(job: HeldJob, error: AppError): Promise<void> {
    job.release();
    const lost = error.code === "LOCK_LOST";
    const left = this.#stop.aborted ? "the daemon ends first" : "the queue does not take its end";
    const why = lost ? "its lock is lost; another worker has the job, or will" : `${left}; its lock will expire`;
    job.log.warn({ err: error }, `claim given up: ${why}`);
    this.#context.metrics.jobs.inc({ model: job.model, end: "lost" });
    if (!lost) return;
    await this.#clear(job, () => this.#context.spool.removeUnfinished(job.id, job.claim.claim));
  }

  /**
   * Repeats a verb until Redis answers. When the answer is that the lock is lost, either an earlier try succeeded and only its answer was
   * lost, which the job's state proves, or the lock expired during an outage, and is taken up again if nobody else has claimed the job.
   * @throws AppError LOCK_LOST, the reason of `stop`, or what Redis keeps answering
   */
  async #until(job: HeldJob, verb: Verb): Promise<void> {
    let [losses, refusals] = [0, 0];
    for (let tries = 1; ; tries += 1) {
      this.#stop.throwIfAborted();
      const error = await this.#orStop(verb.act().then(() => null, asAppError));
      if (error === null) return;
      if (error.code === "LOCK_LOST") {
        losses += 1;
        const found = await this.#orStop(this.#lookAfterLoss(job, verb.proof));
        if (found === "settled") return;
        if (found === "lost" || losses > MAX_LOSSES) throw error;
        if (found === "held") continue;
      } else if (error.code !== "REDIS_UNAVAILABLE") {
        refusals += 1;
        if (refusals >= MAX_REFUSALS) throw error;
        job.log.error({ err: error, tries }, "settling a claim failed unexpectedly; tried again");
      }
      await this.#sleep(backoffDelayMs(REDIS_BACKOFF, tries, this.#random), this.#stop);
    }
  }

  async #lookAfterLoss(job: HeldJob, proof: Verb["proof"]): Promise<"settled" | "held" | "lost" | "unknown"> {
    try {
      const view = await this.#context.queues.job(job.claim.queue, job.id);
      if (view !== null && proof(view)) return "settled";
      return (await this.#context.queues.adopt(job.claim)) === null ? "lost" : "held";
    } catch (thrown) {
      if (asAppError(thrown).code === "REDIS_UNAVAILABLE") return "unknown";
      throw thrown;
    }
  }

  /** A command that hangs must not keep a daemon that ends. */
  async #orStop<T>(work: Promise<T>): Promise<T> {
    const stopped = Promise.withResolvers<never>();
    const onStop = (): void => stopped.reject(this.#stop.reason);
    this.#stop.addEventListener("abort", onStop, { once: true });
    try {
      return await Promise.race([work, stopped.promise]);
    } finally {
      this.#stop.removeEventListener("abort", onStop);
    }
  }
}

/** Names of live workers that serve the model, this one among them. */
export async function servingWorkers({ registry }: Pick<WorkerContext, "registry">, model: string): Promise<readonly string[]> {
  const workers = await registry.list();
  return workers.filter(({ draining, models }) => !draining && models.includes(model)).map(({ worker }) => worker);
}

function isQueued({ state }: JobView): boolean {
  return state === "waiting" || state === "delayed";
}
