import { compatibleWith } from "../../core/batch.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import { JOB_VERSION, parseJobData, type JobData } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { Claim } from "../../queue/queue-types.ts";
import { jobLogger } from "../../telemetry/logger.ts";
import type { ClaimKeeper } from "./claim-keeper.ts";
import type { Finisher } from "./finisher.ts";
import { HeldJob, preempted } from "./held-job.ts";
import type { SpoolEntry } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";

/** How long a job that this worker has passed on before waits for another worker. */
const NOT_HERE_DELAY_MS = 2_000;

/**
 * Claims the members of one batch. What turns out not to be runnable is ended here: damaged data, a newer version, over the stall limit,
 * cancelled, passed on by this worker before, finished by an earlier claim on this host. A job that does not share the first one's
 * `batchBy` parameters goes back to the front at once, and claiming stops there.
 */
export class Claimer {
  readonly #context: WorkerContext;
  readonly #keeper: ClaimKeeper;
  readonly #finisher: Finisher;

  constructor(context: WorkerContext, keeper: ClaimKeeper, finisher: Finisher) {
    this.#context = context;
    this.#keeper = keeper;
    this.#finisher = finisher;
  }

  /** `tookAny`: some job was claimed, even if none of them is to be run: the queue may hold more. @throws AppError REDIS_UNAVAILABLE */
  async claimBatch(
    manifest: Pick<Manifest, "slug" | "batch">,
    max: number,
  ): Promise<{ readonly jobs: readonly HeldJob[]; readonly tookAny: boolean }> {
    const jobs: HeldJob[] = [];
    let tookAny = false;
    while (jobs.length < max) {
      const claim = await this.#claimNext(manifest.slug, jobs.length > 0);
      if (claim === null) break;
      tookAny = true;
      this.#context.metrics.claims.inc({ model: manifest.slug });
      const job = await this.#admit(claim);
      if (job === null) continue;
      const [first] = jobs;
      if (first !== undefined && !compatibleWith(first.data, job.data, manifest)) {
        await this.#finisher.fail(this.#released(job), preempted("it does not share the batch's parameters"), FACTS);
        break;
      }
      jobs.push(job);
    }
    return { jobs, tookAny };
  }

  /** Once jobs are held, a failing Redis ends the claiming and not the batch. */
  async #claimNext(model: string, holding: boolean): Promise<Claim | null> {
    try {
      return await this.#context.queues.claim(model);
    } catch (thrown) {
      if (holding) return null;
      throw thrown;
    }
  }

  #released(job: HeldJob): HeldJob {
    job.abort(preempted("it does not share the batch's parameters"));
    return job;
  }

  /** The job if it is to be run; null when it has been dealt with. */
  async #admit(claim: Claim): Promise<HeldJob | null> {
    const { requests, ledger, spool } = this.#context;
    const [record, passed, earlier] = await Promise.all([
      requests.get(claim.id).catch(() => null),
      ledger.passedOnBy(claim.id).catch(() => new Set<string>()),
      spool.findComplete(claim.id),
    ]);
    const job = this.#hold(claim, record?.startedAt ?? null);
    if (job instanceof AppError) return null;
    this.#keeper.add(job);
    if (claim.deferredFailure !== null) {
      await this.#finisher.fail(job, new AppError("STALLED", `${claim.deferredFailure}: the workers that held it were lost`), FACTS);
      return null;
    }
    if (record !== null && record.cancelledAt !== null) {
      this.#keeper.cancel(claim.id);
      await this.#finisher.fail(job, job.abortReason, FACTS);
      return null;
    }
    if (passed.has(this.#context.config.workerName) && (await this.#isForOthers(job, passed))) return null;
    return earlier !== null && (await this.#storeEarlierOutputs(job, earlier)) ? null : job;
  }

  /** Damaged data end the job without ever being trusted: only the claim's own fields are used. */
  #hold(claim: Claim, startedAt: number | null): HeldJob | AppError {
    const log = jobLogger(this.#context.log, { job: claim.id, model: claim.queue, claim: claim.claim });
    const base = { claim, log, claimedAt: Date.now(), startedAt };
    try {
      const data = parseJobData(claim.data);
      if (data.id !== claim.id || data.model !== claim.queue)
        throw new AppError("INVALID_INPUT", `job ${claim.id} of queue ${claim.queue} carries the data of ${data.id} for ${data.model}`);
      return new HeldJob({ ...base, data });
    } catch (thrown) {
      const job = new HeldJob({ ...base, data: substitute(claim) });
      this.#keeper.add(job);
      void this.#finisher.fail(job, thrown, FACTS);
      return asAppError(thrown);
    }
  }

  /** True when this worker passed the job on before and another one could take it: then it goes back. */
  async #isForOthers(job: HeldJob, passed: ReadonlySet<string>): Promise<boolean> {
    const { registry, queues } = this.#context;
    try {
      const others = await registry.list();
      if (!others.some((other) => !passed.has(other.worker) && !other.draining && other.models.includes(job.data.model))) return false;
      await queues.passOn(job.claim, NOT_HERE_DELAY_MS);
      this.#keeper.release(job);
      return true;
    } catch (thrown) {
      const error = asAppError(thrown);
      if (error.code !== "LOCK_LOST") return false;
      await this.#finisher.fail(job, error, FACTS);
      return true;
    }
  }

  /** An earlier claim on this host left whole outputs: they are stored under this claim and the GPU is not used again. */
  async #storeEarlierOutputs(job: HeldJob, entry: SpoolEntry): Promise<boolean> {
    if (entry.complete === null) return false;
    try {
      await this.#context.spool.verify(entry, entry.complete.files, job.signal);
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "outputs of an earlier claim are damaged; the job runs again");
      await this.#context.spool.remove(job.id);
      return false;
    }
    job.log.info(
      { earlierClaim: entry.claim.claim },
      "outputs of an earlier claim are in the spool; they are stored, the job does not run again",
    );
    this.#finisher.store(job, entry, entry.complete);
    return true;
  }
}

const FACTS = { wasAlone: true, deviceBlamed: false, crashClaims: 0 } as const;

/** Stands in for data that could not be read, so that the claim can be ended like any other. */
function substitute(claim: Claim): JobData {
  const raw = typeof claim.data === "object" && claim.data !== null ? (claim.data as Record<string, unknown>) : {};
  return {
    v: JOB_VERSION,
    id: claim.id,
    task: "txt2img",
    model: claim.queue,
    client: typeof raw["client"] === "string" ? raw["client"] : "unknown",
    params: {},
    inputs: [],
    timeoutMs: 1,
    submittedAt: claim.addedAt,
  };
}
