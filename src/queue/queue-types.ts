import type { JobView } from "../core/job-state.ts";
import type { QueueHead } from "../core/queue-age.ts";
import type { RedisStep } from "../lib/redis-step.ts";
import type { AppError, ErrorData } from "../protocol/error.ts";
import type { JobData } from "../protocol/job.ts";
import type { JobResult } from "../protocol/result.ts";
import type { UnservableLook } from "./long-unservable.ts";

/** The identity of a claim: enough to renew, finish or adopt it. `claim` is BullMQ's attemptsStarted, `token` the lock's value. */
export interface ClaimRef {
  readonly id: string;
  readonly queue: string;
  readonly token: string;
  readonly claim: number;
}

/** `order` grows with each claim of this process: where a job that is handed back stands among others that are. */
export interface OrderedClaim extends ClaimRef {
  readonly order: number;
}

/** A job this process holds the lock of. `data` is as read from Redis: `parseJobData` it. */
export interface Claim extends OrderedClaim {
  readonly data: unknown;
  /** Failures so far (BullMQ's attemptsMade): hand-backs and stalls do not count. */
  readonly attemptsMade: number;
  /** Unix milliseconds of the add, by Redis' clock where we added it. */
  readonly addedAt: number;
  readonly priority: number;
  /** Set when the job stalled too often: whoever claims it must fail it with this text. */
  readonly deferredFailure: string | null;
}

export interface AddOptions {
  readonly priority: number;
  /** The end of the job, whatever it is, frees the delivery `<id>.end` of the courier's queue, in the same step in Redis. */
  readonly webhook?: boolean;
}

export interface QueuePeek {
  readonly model: string;
  /** Jobs that could be claimed now. */
  readonly waiting: number;
  readonly head: QueueHead | null;
  /** 1 is the most urgent. */
  readonly topPriority: number | null;
  /** Milliseconds until the next delayed job falls due; negative when it has. */
  readonly dueInMs: number | null;
  /** Not told of a queue in which nothing waits and nothing is delayed. */
  readonly paused: boolean;
}

/**
 * BullMQ behind our verbs: one queue per model, all under one hash tag. Every verb that needs the lock throws AppError LOCK_LOST when it
 * is no longer ours, and REDIS_UNAVAILABLE when Redis does not answer (then nothing is known: the caller repeats it).
 */
export interface Queues extends AsyncDisposable {
  /** Idempotent by `data.id`. @throws AppError REDIS_UNAVAILABLE */
  add(data: JobData, options: AddOptions): Promise<void>;
  /**
   * Runs `first`, which records the request, and adds its job in the same transaction: one trip, and nobody ever sees the one without the
   * other. Only for an id that nobody else can have used, and without a webhook.
   * @returns null, or why the job could not be added although `first` was done
   * @throws AppError REDIS_UNAVAILABLE when `first` was refused, or nothing is known
   */
  addRecorded(first: RedisStep, data: JobData, options: Pick<AddOptions, "priority">): Promise<AppError | null>;
  /** Has the webhook of a request's start delivered, once however often it is called. @throws AppError REDIS_UNAVAILABLE */
  announceStart(data: JobData, startedAt: number): Promise<void>;
  /** Has an ended delivery delivered once more; idempotent by its number. @throws AppError REDIS_UNAVAILABLE */
  deliverAgain(delivery: { readonly requestId: string; readonly deliveryId: string; readonly number: number }): Promise<void>;
  /** Claims the next job of a model, or null. Also promotes delayed jobs that fell due. */
  claim(model: string): Promise<Claim | null>;
  /** Renews all locks in one round trip; returns the claims whose lock is lost. */
  renew(claims: readonly ClaimRef[]): Promise<readonly ClaimRef[]>;
  complete(claim: ClaimRef, result: JobResult): Promise<void>;
  /** Final failure. */
  fail(claim: ClaimRef, error: ErrorData): Promise<void>;
  /** Back of the queue after `delayMs`; counts as an attempt. */
  retry(claim: ClaimRef, error: ErrorData, delayMs: number): Promise<void>;
  /** To the very front of its priority class at once, no attempt spent. Several stand there in the order in which they were claimed. */
  handBack(claim: OrderedClaim): Promise<void>;
  /** Like `retry` without spending an attempt. */
  delay(claim: ClaimRef, delayMs: number): Promise<void>;
  /** Cancel of a queued job: afterwards it never starts. `active`: some worker holds it. */
  removeQueued(queue: string, id: string): Promise<"removed" | "active" | "gone">;
  /**
   * After a restart of the daemon: takes up a claim it held before. Lock still ours: renewed. Lock expired, job still active and not
   * claimed again: the lock is taken anew, atomically. Otherwise null.
   */
  adopt(ref: ClaimRef): Promise<Claim | null>;
  /** Stalled check of all queues (at most once per interval over the fleet). */
  recoverStalled(): Promise<void>;
  /** One round trip, however many they are. */
  peek(models: readonly string[]): Promise<readonly QueuePeek[]>;
  /** Ids of waiting jobs that callers of this have found without a worker for so long (by Redis' clock), among the first of the queue. */
  longUnservable(model: string, look: UnservableLook): Promise<readonly string[]>;
  job(queue: string, id: string): Promise<JobView | null>;
  /** Place of a waiting job in its queue, 1 = next; null when it does not wait there (delayed, active, ended, gone). */
  position(queue: string, id: string): Promise<number | null>;
  /** Removes finished jobs older than the retention; BullMQ itself does so only when further jobs finish. Returns how many. */
  sweep(): Promise<number>;
}
