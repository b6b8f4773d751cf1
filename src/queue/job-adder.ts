import { FlowProducer, Job, type JobsOptions, type Queue, type RedisQueueBackend } from "bullmq";
import type { Redis } from "ioredis";
import type { RedisStep } from "../lib/redis-step.ts";
import type { ServerClock } from "../lib/server-clock.ts";
import type { JobData } from "../protocol/job.ts";
import { DELIVERY_QUEUE, endJobId, type DeliveryJob } from "./delivery-job.ts";

export interface JobAdderOptions {
  readonly queue: Queue;
  readonly backend: RedisQueueBackend;
  readonly redis: Redis;
  readonly prefix: string;
  readonly retentionMs: number;
  readonly clock: ServerClock;
}

/** Tries are limited by us (crash count, attempts, stalls): BullMQ itself must never decide that a retry was the last one. */
const NO_LIMIT = 1_000_000;

/** All the same, and not none: BullMQ would put a freed parent without one before all that wait, the newest first. */
const DELIVERY_PRIORITY = 1;

/** Puts jobs and deliveries into one queue. Throws BullMQ's own errors. */
export class JobAdder implements AsyncDisposable {
  readonly #options: JobAdderOptions;
  /** Opened by the first job that has a delivery. */
  #producer: FlowProducer | undefined;

  constructor(options: JobAdderOptions) {
    this.#options = options;
  }

  async add(data: JobData, priority: number): Promise<void> {
    await this.#options.queue.add(data.task ?? "job", data, await this.#jobOptions(data.id, priority));
  }

  /**
   * A step of somebody else's and the job, in one transaction. @returns why the job was not added although the step was done, or null
   * @throws what Redis answered to the step, or the connection's error
   */
  async addAfter(first: RedisStep, data: JobData, priority: number): Promise<Error | null> {
    const options = await this.#jobOptions(data.id, priority);
    const job = new Job(this.#options.queue, data.task ?? "job", data, options, data.id);
    const { backend, redis } = this.#options;
    const client = await backend.client;
    // In one turn of the event loop, so that no other command on this connection comes between. Their own answers are `QUEUED`.
    const sent: unknown[] = [redis.multi({ pipeline: false })];
    try {
      sent.push(redis.eval(first.lua, first.keys.length, ...first.keys, ...first.args), job.addJob(client));
    } catch (thrown) {
      // Left open, the transaction would swallow the commands of all others.
      await Promise.allSettled([...sent, redis.discard()]);
      throw thrown;
    }
    const [answers] = await Promise.all([redis.exec(), ...sent]);
    const [[firstError] = [new Error("Redis ended a transaction without an answer")], [addError] = [null]] = answers ?? [];
    if (firstError !== null) {
      if (addError === null) await backend.remove(data.id, true);
      throw firstError;
    }
    // A Redis that was started anew has forgotten BullMQ's script: sent alone, it is sent whole.
    if (addError?.message.includes("NOSCRIPT") !== true) return addError;
    return this.add(data, priority).then(
      () => null,
      (thrown: unknown) => (thrown instanceof Error ? thrown : new Error(String(thrown))),
    );
  }

  /** The job as the child of the delivery of its end: one atomic step adds both, and the child's end frees the parent. */
  async addWithEnd(data: JobData, priority: number): Promise<void> {
    const [ofEnd, ofJob] = await Promise.all([this.#jobOptions(endJobId(data.id), DELIVERY_PRIORITY), this.#jobOptions(data.id, priority)]);
    await this.#flows().add({
      name: "end",
      queueName: DELIVERY_QUEUE,
      data: { kind: "end", requestId: data.id } satisfies DeliveryJob,
      opts: ofEnd,
      children: [
        {
          name: data.task ?? "job",
          queueName: this.#options.queue.name,
          data,
          // Without it a failed child would hold its parent for ever.
          opts: { ...ofJob, ignoreDependencyOnFailure: true },
        },
      ],
    });
  }

  /** Idempotent by id. */
  async addDelivery(id: string, data: DeliveryJob): Promise<void> {
    await this.#options.queue.add(data.kind, data, await this.#jobOptions(id, DELIVERY_PRIORITY));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#producer?.close();
  }

  async #jobOptions(jobId: string, priority: number): Promise<JobsOptions> {
    const age = Math.ceil(this.#options.retentionMs / 1_000);
    return {
      jobId,
      timestamp: await this.#options.clock(),
      // Priority 0 beats every other and hand-backs go to the front of their own class.
      priority: Math.max(1, Math.floor(priority)),
      attempts: NO_LIMIT,
      stackTraceLimit: 0,
      removeOnComplete: { age },
      removeOnFail: { age },
    };
  }

  #flows(): FlowProducer {
    if (this.#producer !== undefined) return this.#producer;
    const { redis: connection, prefix } = this.#options;
    this.#producer = new FlowProducer({ connection, prefix });
    this.#producer.on("error", () => undefined);
    return this.#producer;
  }
}
