import type { AppError } from "../../protocol/error.ts";
import { handedBack, type HeldJob } from "../claims/held-job.ts";
import type { Seat } from "../runners/batch-seat.ts";
import type { Batch } from "../runners/batch.ts";
import type { PooledRunner } from "../runners/runner-pool.ts";

interface Waiting {
  readonly job: HeldJob;
  readonly resolve: (seat: Seat) => void;
  readonly reject: (reason: AppError) => void;
}

export interface RerunsOptions {
  /** Whether the model can be run here before long: it is served, and a device is in service. */
  readonly canRun: (model: string) => boolean;
  /** One more job of the model waits: the scheduler should look. */
  readonly onWaiting: (model: string) => void;
  /** Everything else on the runner's device is to be evicted first: the job ran out of memory there. */
  readonly onEvict: (runner: PooledRunner) => void;
}

const NOT_HERE = (): AppError => handedBack("its model is not served here any more, or all devices are out of service");

/**
 * Where a held job waits for its next run under the same claim. Waiting jobs count as waiting work of their model, so that the scheduler
 * finds them a runner; each gets a batch of its own, since being alone is what tells the guilty one. A job that is aborted stops waiting.
 */
export class Reruns {
  readonly #options: RerunsOptions;
  readonly #waiting = new Map<string, Waiting[]>();
  #closed: AppError | null = null;

  constructor(options: RerunsOptions) {
    this.#options = options;
  }

  /** Jobs of a model that wait here, the oldest first. */
  of(model: string): readonly HeldJob[] {
    return this.#list(model).map(({ job }) => job);
  }

  /** The seat for the next run. `evictFor`: the runner on which the job ran out of memory. Rejects with the job's abort reason, or a refusal. */
  async next(job: HeldJob, evictFor: PooledRunner | null): Promise<Seat> {
    job.signal.throwIfAborted();
    if (this.#closed !== null) throw this.#closed;
    if (!this.#options.canRun(job.model)) throw NOT_HERE();
    const { promise, resolve, reject } = Promise.withResolvers<Seat>();
    const waiting: Waiting = { job, resolve, reject };
    const onAbort = (): void => {
      this.#set(job.model, (list) => list.filter((each) => each !== waiting));
      reject(job.signal.reason);
    };
    job.signal.addEventListener("abort", onAbort, { once: true });
    this.#set(job.model, (list) => [...list, waiting]);
    if (evictFor !== null) this.#options.onEvict(evictFor);
    this.#options.onWaiting(job.model);
    try {
      return await promise;
    } finally {
      job.signal.removeEventListener("abort", onAbort);
    }
  }

  /** Gives the longest waiting job of the batch's model its seat. False when none waits. */
  offer(batch: Batch): boolean {
    const { model } = batch.runner;
    const [first, ...rest] = this.#list(model);
    if (first === undefined) return false;
    this.#set(model, () => rest);
    first.resolve(batch.seat());
    return true;
  }

  /** Nobody here can run them: they go back to their queue. */
  refuse(model: string, reason: AppError): void {
    const list = this.#list(model);
    this.#waiting.delete(model);
    for (const { reject } of list) reject(reason);
  }

  /** What can be run here has changed: jobs that would wait for long are for others, and go back to their queue. */
  review(): void {
    for (const model of this.#waiting.keys()) if (!this.#options.canRun(model)) this.refuse(model, NOT_HERE());
  }

  /** Refuses all that wait and all that come. */
  close(reason: AppError): void {
    this.#closed = reason;
    for (const model of this.#waiting.keys()) this.refuse(model, reason);
  }

  #list(model: string): readonly Waiting[] {
    return this.#waiting.get(model) ?? [];
  }

  #set(model: string, change: (list: readonly Waiting[]) => readonly Waiting[]): void {
    const list = change(this.#list(model));
    if (list.length === 0) this.#waiting.delete(model);
    else this.#waiting.set(model, [...list]);
  }
}
