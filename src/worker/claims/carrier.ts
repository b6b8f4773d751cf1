import { diskFull } from "../../protocol/disk-full.ts";
import { asAppError, type AppError } from "../../protocol/error.ts";
import type { JobData } from "../../protocol/job.ts";
import type { Claim } from "../../queue/queue-types.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { Seat } from "../runners/batch-seat.ts";
import type { CompleteEntry, SpoolEntry } from "../spool/spool.ts";
import { admit } from "./admit.ts";
import type { ClaimKeeper } from "./claim-keeper.ts";
import { handedBack, type HeldJob } from "./held-job.ts";
import { runJob, type RunParts } from "./run-job.ts";
import { storeOutputs, verifiedEntry } from "./outputs.ts";
import { failedWith, type Ending, type Settler } from "./settler.ts";

export interface CarrierParts extends RunParts {
  readonly keeper: ClaimKeeper;
  readonly settler: Settler;
  /** A claim ended because the disk of the spool is full. */
  readonly onSpoolFull: () => void;
}

/**
 * Carries each claim from the moment it is made to its end, in one function: whatever happens on the way, `#toItsEnd` settles the claim.
 *
 *   claimed -> admitted -> inputs -> (a seat in a batch -> outcome)+ -> outputs stored -> settled
 */
export class Carrier {
  readonly #context: WorkerContext;
  readonly #parts: CarrierParts;
  readonly #carried = new Set<Promise<void>>();
  #storing = 0;

  constructor(context: WorkerContext, parts: CarrierParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /**
   * Takes a claim from the queue. `offer` gives the job a seat in the batch, or null when it may not share it: then it goes back to the
   * front. Resolves to what became of the offer (`ended`: none was needed); the claim's end follows without anybody waiting for it.
   */
  carry(claim: Claim, offer: (data: JobData) => Seat | null): Promise<"seated" | "refused" | "ended"> {
    const offered = Promise.withResolvers<"seated" | "refused" | "ended">();
    const work = async (job: HeldJob): Promise<Ending> => {
      const admission = await admit(this.#context, job);
      // Storing may take as long as an outage of the store: a batch and its runner do not wait for it.
      if (admission.kind !== "run") offered.resolve("ended");
      if (admission.kind === "not-here") return admission;
      if (admission.kind === "outputs") return this.#store(job, admission.entry);
      using seat = offer(job.data);
      offered.resolve(seat === null ? "refused" : "seated");
      if (seat === null) throw handedBack("it got no seat: it does not share the batch's parameters, or the worker shuts down");
      return await runJob(this.#context, this.#parts, job, seat, (entry, signal) => this.#store(job, entry, signal));
    };
    // No answer waits for the settling: while Redis is away it takes as long as that. Where there is nothing to work on, it must.
    const carried = this.#carry(claim, (job) => work(job).finally(() => offered.resolve("ended")));
    void carried.then(() => offered.resolve("ended"));
    return offered.promise;
  }

  /**
   * Holds a claim that is not to run here, and ends it with what `why` resolves to: an error of the job, or `handedBack`. One that has ended
   * already (cancelled, its outputs whole on this disk) ends so. Resolves when the claim is settled.
   */
  end(claim: Claim, why: Promise<AppError>): Promise<void> {
    return this.#carry(claim, async (job) => {
      const admission = await admit(this.#context, job);
      if (admission.kind === "not-here") return admission;
      if (admission.kind === "outputs") return this.#store(job, admission.entry);
      throw await why;
    });
  }

  /** Takes up a claim of an earlier daemon: outputs that are whole are stored, anything else goes back to the front of its queue. */
  carryOn(claim: Claim, entry: SpoolEntry): Promise<void> {
    return this.#carry(claim, async (job) => {
      const whole = await verifiedEntry(this.#context, job, entry);
      if (whole === null) throw handedBack("the worker that held it ended before its outputs were whole");
      job.log.info("outputs of an earlier daemon are in the spool; they are stored, the job does not run again");
      return this.#store(job, whole);
    });
  }

  /** Claims whose outputs are whole and not stored yet. */
  get storing(): number {
    return this.#storing;
  }

  /** Claims on their way. */
  get carrying(): number {
    return this.#carried.size;
  }

  /** Resolves when no claim is on its way. */
  async idle(): Promise<void> {
    while (this.#carried.size > 0) await Promise.all(this.#carried);
  }

  #carry(claim: Claim, work: (job: HeldJob) => Promise<Ending>): Promise<void> {
    const carried = this.#toItsEnd(claim, work)
      .catch((thrown: unknown) => this.#context.log.error({ err: asAppError(thrown), job: claim.id }, "after a claim's end; this is a bug"))
      .finally(() => this.#carried.delete(carried));
    this.#carried.add(carried);
    return carried;
  }

  async #toItsEnd(claim: Claim, work: (job: HeldJob) => Promise<Ending>): Promise<void> {
    using job = this.#parts.keeper.hold(claim);
    const ending = await endingOf(job, work);
    let ended = false;
    try {
      // First, so that it is not claimed again at once.
      if (ending.kind === "failed" && ending.error.code === "SPOOL_FULL") this.#parts.onSpoolFull();
    } finally {
      ended = await this.#parts.settler.settle(job, ending);
    }
    if (!ended) return;
    // What earlier claims left in the store is nobody's any more.
    if (claim.claim > 1) await this.#context.uploader.removeEarlier(claim.id, claim.claim);
    if (ending.kind !== "done") return;
    const { runMs, encodeMs, uploadMs } = ending.result.timings;
    // For estimates alone.
    await this.#context.runTimes.learn(job.model, runMs + encodeMs + uploadMs).catch(() => undefined);
  }

  async #store(job: HeldJob, entry: CompleteEntry, signal: AbortSignal = job.signal): Promise<Ending> {
    job.stopClock();
    this.#storing += 1;
    try {
      return { kind: "done", result: await storeOutputs(this.#context, job, entry, signal) };
    } finally {
      this.#storing -= 1;
    }
  }
}

/** What the work came to. A job that was aborted meanwhile ends for that reason, whatever its failure looked like. */
async function endingOf(job: HeldJob, work: (job: HeldJob) => Promise<Ending>): Promise<Ending> {
  try {
    if (job.damage !== null) throw job.damage;
    const ending = await work(job);
    return ending.kind === "failed" && job.abortReason !== null ? failedWith(job.abortReason) : ending;
  } catch (thrown) {
    // What noticed a full disk may have taken it for something else, such as a download that failed.
    return failedWith(job.abortReason ?? diskFull(thrown) ?? thrown);
  }
}
