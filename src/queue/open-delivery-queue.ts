import { randomUUID } from "node:crypto";
import { serverClock } from "../lib/server-clock.ts";
import { within } from "../lib/within.ts";
import { AppError } from "../protocol/error.ts";
import { orUnreadable, type Unreadable } from "../protocol/stored.ts";
import { openFairClaimer, type ClaimRoom, type FairClaim, type Lane } from "./claim-fairly.ts";
import { DELIVERY_QUEUE, parseDeliveryJob, startJobId, type DeliveryJob } from "./delivery-job.ts";
import { freeOrphans } from "./free-orphans.ts";
import { ModelQueue } from "./model-queue.ts";
import type { QueuesOptions } from "./open-queues.ts";
import { guarded } from "./queue-errors.ts";
import { dueForSweep, peekQueues } from "./queue-scripts.ts";
import type { ClaimRef, OrderedClaim, QueuePeek } from "./queue-types.ts";

export interface DeliveryClaim extends OrderedClaim {
  readonly job: DeliveryJob | Unreadable;
  readonly lane: Lane;
  /** From 1: attempts that a dying courier cut off do not count. */
  readonly attempt: number;
}

export interface DueDeliveries {
  readonly claims: readonly DeliveryClaim[];
  /** Claim again at once: not all that is due was looked at. */
  readonly more: boolean;
  /** Milliseconds until the next delayed delivery falls due; null when none waits. */
  readonly dueInMs: number | null;
}

/** The courier's side of the queue of webhooks. Errors as `Queues`. */
export interface DeliveryQueue extends AsyncDisposable {
  /** Of the deliveries that are due those whose turn it is, as many as there is room for: see claim-fairly.ts. */
  claim(room: ClaimRoom): Promise<DueDeliveries>;
  /** Renews all locks; returns the claims whose lock is lost. */
  renew(claims: readonly ClaimRef[]): Promise<readonly ClaimRef[]>;
  done(claim: ClaimRef): Promise<void>;
  fail(claim: ClaimRef, reason: string): Promise<void>;
  /** After `waitMs` the attempt of this number. */
  retry(claim: ClaimRef, next: { readonly reason: string; readonly waitMs: number; readonly attempt: number }): Promise<void>;
  /** The same attempt after `waitMs`. */
  postpone(claim: ClaimRef, waitMs: number): Promise<void>;
  /** The same attempt at once, by whoever claims it. */
  handBack(claim: OrderedClaim): Promise<void>;
  /** As `Queues.announceStart`. */
  announceStart(requestId: string, startedAt: number): Promise<void>;
  /** Gives deliveries of dead couriers back (at most once per interval over the fleet). */
  recoverStalled(): Promise<void>;
  /** Frees deliveries that wait for a job which has ended or is gone; looks at some of those that wait each time. Returns how many. */
  freeOrphans(): Promise<number>;
  peek(): Promise<QueuePeek>;
  /** Forgets ended deliveries older than the retention. */
  sweep(): Promise<number>;
}

export type DeliveryQueueOptions = Omit<QueuesOptions, "maxStalled">;

/** For connections without a command timeout. */
const OPEN_TIMEOUT_MS = 10_000;
/** A delivery whose couriers died is tried again however often that was: none may be lost. */
const MAX_STALLED = 1_000_000;

/** Resolves once Redis has answered. @throws AppError REDIS_UNAVAILABLE */
export async function openDeliveryQueue(options: DeliveryQueueOptions): Promise<DeliveryQueue> {
  const { redis, keys, lockMs, workerName } = options;
  redis.setMaxListeners(0);
  const queue = new ModelQueue(DELIVERY_QUEUE, { ...options, maxStalled: MAX_STALLED, prefix: keys.prefix });
  await guarded("opening the queue of webhooks", () => openedSoon(queue, redis.options.commandTimeout ?? OPEN_TIMEOUT_MS));
  const fair = openFairClaimer({ redis, keys, lockMs, workerName });
  let orphanCursor = 0;
  return {
    claim: (room) =>
      guarded("claiming deliveries", async () => {
        const { claims, ...rest } = await fair.claim(randomUUID(), room);
        return { ...rest, claims: await Promise.all(claims.map((claim) => held(queue, claim))) };
      }),
    renew: (claims) => guarded("renewing locks of deliveries", () => queue.renew(claims)),
    done: (claim) => guarded(`ending delivery ${claim.id}`, () => queue.complete(claim, null)),
    fail: (claim, reason) => guarded(`failing delivery ${claim.id}`, () => queue.fail(claim, reason)),
    retry: (claim, { reason, waitMs, attempt }) =>
      guarded(`delaying delivery ${claim.id}`, () => queue.retry(claim, reason, waitMs, attempt - 1)),
    postpone: (claim, waitMs) => guarded(`postponing delivery ${claim.id}`, () => queue.delay(claim, waitMs)),
    handBack: (claim) => guarded(`handing back delivery ${claim.id}`, () => queue.handBack(claim)),
    announceStart: (requestId, startedAt) =>
      guarded(`announcing the start of job ${requestId}`, () =>
        queue.adder.addDelivery(startJobId(requestId), { kind: "processing", requestId, startedAt }),
      ),
    recoverStalled: () => guarded("the check for stalled deliveries", () => queue.recoverStalled()),
    freeOrphans: () =>
      guarded("the look for stuck deliveries", async () => {
        const { cursor, freed } = await freeOrphans(redis, keys.prefix, orphanCursor);
        orphanCursor = cursor;
        return freed;
      }),
    peek: () =>
      guarded("looking at the queue of webhooks", async () => {
        const [peek] = await peekQueues(redis, keys.prefix, [DELIVERY_QUEUE]);
        if (peek === undefined) throw new AppError("INTERNAL", "one queue was looked at and none was seen; this is a bug");
        return peek;
      }),
    sweep: () =>
      guarded("sweeping ended deliveries", async () => {
        const before = (await serverClock(redis)()) - options.retentionMs;
        const due = await dueForSweep(redis, keys.prefix, { queues: [DELIVERY_QUEUE], before });
        const removed = await Promise.all(due.map(({ state }) => queue.sweep(state, before)));
        return removed.reduce((sum, count) => sum + count, 0);
      }),
    [Symbol.asyncDispose]: () => queue[Symbol.asyncDispose](),
  };
}

/** BullMQ would wait for a Redis that is away without end. */
async function openedSoon(queue: ModelQueue, ms: number): Promise<void> {
  try {
    await within(queue.opened, { ms, late: () => new AppError("REDIS_UNAVAILABLE", `no Redis for ${ms} ms`), unref: true });
  } catch (thrown) {
    await queue[Symbol.asyncDispose]().catch(() => undefined);
    throw thrown;
  }
}

async function held(queue: ModelQueue, { id, token, lane, pairs }: FairClaim): Promise<DeliveryClaim> {
  const claim = queue.take(id, token, pairs);
  const job = await orUnreadable((async () => parseDeliveryJob(id, claim.data))());
  return { id, queue: claim.queue, token, claim: claim.claim, order: claim.order, attempt: claim.attemptsMade + 1, job, lane };
}
