import type { Redis } from "ioredis";
import type { JobView } from "../core/job-state.ts";
import type { RedisStep } from "../lib/redis-step.ts";
import { serverClock } from "../lib/server-clock.ts";
import { within } from "../lib/within.ts";
import { AppError, type ErrorData } from "../protocol/error.ts";
import type { JobData } from "../protocol/job.ts";
import type { Keys } from "../protocol/keys.ts";
import type { JobResult } from "../protocol/result.ts";
import { againJobId, DELIVERY_QUEUE, startJobId, type DeliveryJob } from "./delivery-job.ts";
import { longUnservable, type UnservableLook } from "./long-unservable.ts";
import { ModelQueue } from "./model-queue.ts";
import { guarded, queueError } from "./queue-errors.ts";
import { adoptLock, dueForStalledCheck, dueForSweep, peekQueues } from "./queue-scripts.ts";
import type { AddOptions, Claim, ClaimRef, OrderedClaim, QueuePeek, Queues } from "./queue-types.ts";

export interface QueuesOptions {
  /** Shared by all queues; stays open. */
  readonly redis: Redis;
  readonly keys: Keys;
  readonly lockMs: number;
  readonly stalledIntervalMs: number;
  /** Stalls after which a job is failed by whoever claims it next. */
  readonly maxStalled: number;
  readonly retentionMs: number;
  readonly workerName: string;
}

/** For connections without a command timeout. */
const OPEN_TIMEOUT_MS = 10_000;

/** Opens the queues; each model's own is opened when it is first named. Two ioredis listeners a queue sit on the shared connection. */
export function openQueues(options: QueuesOptions): Queues {
  options.redis.setMaxListeners(0);
  return new BullQueues(options);
}

class BullQueues implements Queues {
  readonly #options: QueuesOptions;
  readonly #queues = new Map<string, ModelQueue>();

  constructor(options: QueuesOptions) {
    this.#options = options;
  }

  add(data: JobData, { priority, webhook }: AddOptions): Promise<void> {
    return guarded(`adding job ${data.id}`, async () => {
      const { adder } = await this.#open(data.model);
      if (webhook === true) await adder.addWithEnd({ ...data, webhook }, priority);
      else await adder.add(data, priority);
    });
  }

  addRecorded(first: RedisStep, data: JobData, { priority }: Pick<AddOptions, "priority">): Promise<AppError | null> {
    const what = `adding job ${data.id} with its record`;
    return guarded(what, async () => {
      const failure = await (await this.#open(data.model)).adder.addAfter(first, data, priority);
      return failure === null ? null : queueError(failure, what);
    });
  }

  announceStart({ id }: JobData, startedAt: number): Promise<void> {
    return guarded(`announcing the start of job ${id}`, async () => {
      const queue = await this.#open(DELIVERY_QUEUE);
      await queue.adder.addDelivery(startJobId(id), { kind: "processing", requestId: id, startedAt } satisfies DeliveryJob);
    });
  }

  deliverAgain({ requestId, deliveryId, number }: Parameters<Queues["deliverAgain"]>[0]): Promise<void> {
    return guarded(`queueing delivery ${deliveryId} again`, async () => {
      const queue = await this.#open(DELIVERY_QUEUE);
      await queue.adder.addDelivery(againJobId(deliveryId, number), { kind: "again", requestId, deliveryId } satisfies DeliveryJob);
    });
  }

  claim(model: string): Promise<Claim | null> {
    return guarded(`claiming from queue ${model}`, async () => (await this.#open(model)).claim());
  }

  async renew(claims: readonly ClaimRef[]): Promise<readonly ClaimRef[]> {
    const byQueue = Map.groupBy(claims, (claim) => claim.queue);
    const lost = await guarded("renewing locks", () =>
      Promise.all([...byQueue].map(async ([queue, refs]) => (await this.#open(queue)).renew(refs))),
    );
    return lost.flat();
  }

  complete(claim: ClaimRef, result: JobResult): Promise<void> {
    return guarded(`completing job ${claim.id}`, async () => (await this.#open(claim.queue)).complete(claim, result));
  }

  fail(claim: ClaimRef, error: ErrorData): Promise<void> {
    return guarded(`failing job ${claim.id}`, async () => (await this.#open(claim.queue)).fail(claim, JSON.stringify(error)));
  }

  retry(claim: ClaimRef, error: ErrorData, delayMs: number): Promise<void> {
    return guarded(`retrying job ${claim.id}`, async () => (await this.#open(claim.queue)).retry(claim, JSON.stringify(error), delayMs));
  }

  handBack(claim: OrderedClaim): Promise<void> {
    return guarded(`handing back job ${claim.id}`, async () => (await this.#open(claim.queue)).handBack(claim));
  }

  delay(claim: ClaimRef, delayMs: number): Promise<void> {
    return guarded(`delaying job ${claim.id}`, async () => (await this.#open(claim.queue)).delay(claim, delayMs));
  }

  removeQueued(queue: string, id: string): Promise<"removed" | "active" | "gone"> {
    return guarded(`removing job ${id}`, async () => (await this.#open(queue)).remove(id));
  }

  adopt(ref: ClaimRef): Promise<Claim | null> {
    const { redis, keys, lockMs } = this.#options;
    return guarded(`taking up claim ${ref.claim} of job ${ref.id}`, async () => {
      const queue = await this.#open(ref.queue);
      if (await adoptLock(redis, keys.prefix, ref, lockMs)) return queue.reload(ref.id, ref.token);
      queue.forget(ref);
      return null;
    });
  }

  async recoverStalled(): Promise<void> {
    const { redis, keys } = this.#options;
    await guarded("the check for stalled jobs", async () => {
      const due = await dueForStalledCheck(redis, keys.prefix, [...this.#queues.keys()]);
      await Promise.all(due.map(async (queue) => (await this.#open(queue)).recoverStalled()));
    });
  }

  peek(models: readonly string[]): Promise<readonly QueuePeek[]> {
    for (const model of models) this.#of(model);
    return guarded("looking at the queues", () => peekQueues(this.#options.redis, this.#options.keys.prefix, models));
  }

  longUnservable(model: string, look: UnservableLook): Promise<readonly string[]> {
    const { redis, keys } = this.#options;
    return guarded(`looking for jobs of ${model} that no worker can run`, () => longUnservable(redis, keys, model, look));
  }

  job(queue: string, id: string): Promise<JobView | null> {
    return guarded(`reading job ${id}`, async () => (await this.#open(queue)).job(id));
  }

  position(queue: string, id: string): Promise<number | null> {
    const { redis, keys } = this.#options;
    return guarded(`finding the place of job ${id}`, async () => {
      // All jobs have a priority, so that all wait in this set.
      const rank = await redis.zrank(`${keys.prefix}:${queue}:prioritized`, id);
      return rank === null ? null : rank + 1;
    });
  }

  async sweep(): Promise<number> {
    const { redis, keys, retentionMs } = this.#options;
    const removed = await guarded("sweeping ended jobs", async () => {
      const before = (await serverClock(redis)()) - retentionMs;
      const due = await dueForSweep(redis, keys.prefix, { queues: [...this.#queues.keys()], before });
      return Promise.all(due.map(async ({ queue, state }) => (await this.#open(queue)).sweep(state, before)));
    });
    return removed.reduce((sum, count) => sum + count, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#queues.values()].map((queue) => queue[Symbol.asyncDispose]()));
  }

  #of(model: string): ModelQueue {
    const known = this.#queues.get(model);
    if (known !== undefined) return known;
    const queue = new ModelQueue(model, { ...this.#options, prefix: this.#options.keys.prefix });
    this.#queues.set(model, queue);
    // Redis went away just then: the next verb opens another.
    queue.opened.catch(async () => {
      this.#queues.delete(model);
      await queue[Symbol.asyncDispose]().catch(() => undefined);
    });
    return queue;
  }

  /** A queue that is first named while Redis is away would wait for it without end: it waits as long as a command. */
  async #open(model: string): Promise<ModelQueue> {
    const queue = this.#of(model);
    const ms = this.#options.redis.options.commandTimeout ?? OPEN_TIMEOUT_MS;
    const late = (): AppError => new AppError("REDIS_UNAVAILABLE", `queue ${model} was not opened: no Redis for ${ms} ms`);
    await within(queue.opened, { ms, late, unref: true });
    return queue;
  }
}
