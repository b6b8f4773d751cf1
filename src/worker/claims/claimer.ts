import { compatibleWith } from "../../core/batch.ts";
import type { JobData } from "../../protocol/job.ts";
import type { Claim } from "../../queue/queue-types.ts";
import type { Batch } from "../runners/batch.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { Carrier } from "./carrier.ts";

/**
 * Claims the members of one batch. Each claim is carried from the moment it is made; the claimer only learns whether it took a seat. A job
 * that does not share the first one's `batch.by` parameters, or that comes when the worker shuts down already, goes back to the front at
 * once, and claiming stops there.
 */
export class Claimer {
  readonly #context: Pick<WorkerContext, "metrics" | "queues">;
  readonly #carrier: Pick<Carrier, "carry">;
  readonly #isDraining: () => boolean;

  constructor(context: Pick<WorkerContext, "metrics" | "queues">, carrier: Pick<Carrier, "carry">, isDraining: () => boolean) {
    this.#context = context;
    this.#carrier = carrier;
    this.#isDraining = isDraining;
  }

  /** Returns how many jobs were claimed, seated or not: the queue may hold more. @throws AppError REDIS_UNAVAILABLE */
  async claimInto(batch: Batch, max: number): Promise<number> {
    const { manifest } = batch.runner;
    let first: JobData | null = null;
    let claims = 0;
    while (batch.size < max && !this.#isDraining()) {
      const claim = await this.#claimNext(manifest.slug, batch.size > 0);
      if (claim === null) break;
      claims += 1;
      this.#context.metrics.claims.inc({ model: manifest.slug });
      const took = await this.#carrier.carry(claim, (data) => {
        if (this.#isDraining() || (first !== null && !compatibleWith(first, data, manifest))) return null;
        first ??= data;
        return batch.seat();
      });
      if (took === "refused") break;
    }
    return claims;
  }

  /** Once jobs are seated, a failing Redis ends the claiming and not the batch. */
  async #claimNext(model: string, seated: boolean): Promise<Claim | null> {
    try {
      return await this.#context.queues.claim(model);
    } catch (thrown) {
      if (seated) return null;
      throw thrown;
    }
  }
}
