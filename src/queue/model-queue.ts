import { randomUUID } from "node:crypto";
import { Job, Queue, raw2NextJobData, UnrecoverableError, type RedisQueueBackend } from "bullmq";
import type { Redis } from "ioredis";
import type { JobView } from "../core/job-state.ts";
import { serverClock, type ServerClock } from "../lib/server-clock.ts";
import { parseJobResult, type JobResult } from "../protocol/result.ts";
import { isUnreadable, orUnreadable, storedJson, storedNumber } from "../protocol/stored.ts";
import { clockedBackend } from "./clocked-backend.ts";
import { JobAdder } from "./job-adder.ts";
import { placeFirst, type EndedSet } from "./queue-scripts.ts";
import type { Claim, ClaimRef, OrderedClaim } from "./queue-types.ts";

export interface ModelQueueOptions {
  readonly redis: Redis;
  readonly prefix: string;
  readonly lockMs: number;
  readonly stalledIntervalMs: number;
  readonly maxStalled: number;
  readonly retentionMs: number;
  readonly workerName: string;
}

const STATES: Readonly<Record<string, JobView["state"]>> = {
  waiting: "waiting",
  prioritized: "waiting",
  paused: "waiting",
  delayed: "delayed",
  active: "active",
  completed: "completed",
  failed: "failed",
  "waiting-children": "waiting-children",
};

/** Fields of BullMQ's job hash: `atm` counts failed attempts, `ats` claims. */
const VIEWED = ["failedReason", "returnvalue", "atm", "ats", "timestamp", "processedOn", "finishedOn"] as const;

let lastOrder = 0;

/** By the time of the claim (unix ms), and by their sequence where that is the same; a thousandth of a millisecond apart. */
function nextOrder(claimedAt: number): number {
  lastOrder = Math.max(lastOrder + 1, claimedAt * 1_000);
  return lastOrder;
}

/** As BullMQ's backend hands it on. */
type RawJob = Readonly<Record<string, unknown>>;

/** Data that are no JSON become null: BullMQ would throw, and the job would stay claimed by nobody. `parseJobData` refuses null. */
function withReadableData(raw: RawJob): RawJob {
  const { data } = raw;
  return typeof data === "string" && storedJson(data) === undefined ? { ...raw, data: "null" } : raw;
}

async function resultOf(id: string, json: string): Promise<JobResult | null> {
  return json === "null" ? null : parseJobResult(id, json);
}

/** One model's BullMQ queue: jobs are claimed by hand (no Worker), so nothing happens here on its own. Throws BullMQ's own errors. */
export class ModelQueue implements AsyncDisposable {
  readonly #queue: Queue;
  readonly #backend: RedisQueueBackend;
  readonly #options: ModelQueueOptions;
  readonly #clock: ServerClock;
  /** BullMQ's objects of the jobs we hold, by token: finishing needs their options. */
  readonly #held = new Map<string, Job>();
  readonly adder: JobAdder;
  /** Resolves once Redis has answered. Rejects for good when it failed to: BullMQ never tries again, so neither can this object. */
  readonly opened: Promise<unknown>;

  constructor(model: string, options: ModelQueueOptions) {
    const { redis: connection, prefix, lockMs, stalledIntervalMs, maxStalled } = options;
    this.#options = options;
    this.#clock = serverClock(connection);
    const factory = clockedBackend(this.#clock);
    this.#queue = new Queue(model, { connection, prefix }, factory);
    // Errors of the shared connection are its owner's; without a listener here they would be thrown.
    this.#queue.on("error", () => undefined);
    this.#backend = factory(
      model,
      {
        connection,
        prefix,
        lockDuration: lockMs,
        stalledInterval: stalledIntervalMs,
        maxStalledCount: maxStalled,
        name: options.workerName,
      } as never,
      { withBlockingConnection: false },
    );
    this.#backend.on("error", () => undefined);
    this.adder = new JobAdder({ ...options, queue: this.#queue, backend: this.#backend, clock: this.#clock });
    this.opened = Promise.all([this.#queue.waitUntilReady(), this.#backend.waitUntilReady()]);
    this.opened.catch(() => undefined);
  }

  async claim(): Promise<Claim | null> {
    const token = randomUUID();
    const [raw, id] = (await this.#backend.moveToActive(token, this.#options.workerName)) as [unknown, string | undefined];
    if (raw === null || raw === undefined || typeof raw === "number" || id === undefined) return null;
    return this.#hold(Job.fromJSON(this.#queue, withReadableData(raw as RawJob) as never, id), token);
  }

  /** Holds a job that a script of ours has claimed. `pairs`: its hash, names and values in turn. */
  take(id: string, token: string, pairs: readonly string[]): Claim {
    const [raw] = raw2NextJobData([pairs, id]) as [RawJob];
    return this.#hold(Job.fromJSON(this.#queue, withReadableData(raw) as never, id), token);
  }

  /** Holds a job whose lock was taken up again; null when it is gone. */
  async reload(id: string, token: string): Promise<Claim | null> {
    const job = await Job.fromId(this.#queue, id);
    return job === undefined ? null : this.#hold(job, token);
  }

  async renew(refs: readonly ClaimRef[]): Promise<readonly ClaimRef[]> {
    const lost = await this.#backend.extendLocks(
      refs.map((ref) => ref.id),
      refs.map((ref) => ref.token),
      this.#options.lockMs,
    );
    const ids = new Set(lost);
    return refs.filter((ref) => ids.has(ref.id));
  }

  async complete(ref: ClaimRef, result: JobResult | null): Promise<void> {
    const job = await this.#jobOf(ref);
    await job.moveToCompleted(result, ref.token, false);
    this.#held.delete(ref.token);
  }

  async fail(ref: ClaimRef, reason: string): Promise<void> {
    const job = await this.#jobOf(ref);
    const error = new UnrecoverableError(reason);
    // The reason holds all there is to know; a stack of this place would only be a copy of it.
    error.stack = "";
    await job.moveToFailed(error, ref.token, false);
    this.#held.delete(ref.token);
  }

  /** Counts an attempt. `attemptsMade`: how many that makes, where some were left out. */
  async retry(ref: ClaimRef, reason: string, delayMs: number, attemptsMade?: number): Promise<void> {
    // BullMQ adds one to what stands there.
    const counted = attemptsMade === undefined ? {} : { atm: attemptsMade - 1 };
    await this.#moveToDelayed(ref, delayMs, { fieldsToUpdate: { failedReason: reason, ...counted } });
  }

  /** Counts no attempt. */
  async delay(ref: ClaimRef, delayMs: number): Promise<void> {
    await this.#moveToDelayed(ref, delayMs, { skipAttempt: true });
  }

  async handBack(claim: OrderedClaim): Promise<void> {
    await this.#backend.moveJobFromActiveToWait(claim.id, claim.token);
    this.#held.delete(claim.token);
    // It is handed back by now; without an answer only its place among other hand-backs is uncertain.
    await placeFirst(this.#options.redis, this.#options.prefix, claim).catch(() => undefined);
  }

  async remove(id: string): Promise<"removed" | "active" | "gone"> {
    const state = await this.#backend.getState(id);
    if (state === "active") return "active";
    if (state === "unknown" || state === "completed" || state === "failed") return "gone";
    // A claim may have been faster: then the job is locked and stays.
    return (await this.#backend.remove(id, true)) === 1 ? "removed" : "active";
  }

  async job(id: string): Promise<JobView | null> {
    // The state first: a job that ends between the two then shows as still active, never as ended without its result.
    const known = STATES[await this.#backend.getState(id)];
    if (known === undefined) return null;
    // BullMQ's own reader would parse all of the job, and fail on what is of no interest here.
    const key = `${this.#options.prefix}:${this.#queue.name}:${id}`;
    const [failedReason, returned, attemptsMade, claim, addedAt, processedAt, finishedAt] = await this.#options.redis.hmget(key, ...VIEWED);
    if (typeof addedAt !== "string") return null;
    const result = known === "completed" ? await orUnreadable(resultOf(id, returned ?? "null")) : null;
    return {
      state: known,
      failedReason: known === "failed" ? (failedReason ?? null) : null,
      ...(isUnreadable(result) ? { result: null, ...result } : { result }),
      attemptsMade: storedNumber(attemptsMade) ?? 0,
      claim: storedNumber(claim) ?? 0,
      addedAt: Number(addedAt),
      processedAt: storedNumber(processedAt),
      finishedAt: storedNumber(finishedAt),
    };
  }

  async recoverStalled(): Promise<void> {
    await this.#backend.moveStalledJobsToWait();
  }

  /** Removes jobs that ended in this way at or before `before` (unix ms). Returns how many. */
  async sweep(state: EndedSet["state"], before: number): Promise<number> {
    return (await this.#backend.cleanJobsByState(state, before, 1_000)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The connection is its owner's and stays open.
    await Promise.all([this.#queue.close(), this.#backend.close(), this.adder[Symbol.asyncDispose]()]);
  }

  async #moveToDelayed(ref: ClaimRef, delayMs: number, options: Parameters<RedisQueueBackend["moveToDelayed"]>[4]): Promise<void> {
    await this.#backend.moveToDelayed(ref.id, await this.#clock(), Math.max(1, Math.round(delayMs)), ref.token, options);
    this.#held.delete(ref.token);
  }

  async #jobOf(ref: ClaimRef): Promise<Job> {
    const held = this.#held.get(ref.token) ?? (await Job.fromId(this.#queue, ref.id));
    if (held === undefined) throw new Error(`Missing key for job ${ref.id}. it is not in queue ${ref.queue}`);
    return held;
  }

  #hold(job: Job, token: string): Claim {
    this.#held.set(token, job);
    return {
      id: job.id ?? "",
      queue: this.#queue.name,
      token,
      claim: job.attemptsStarted,
      attemptsMade: job.attemptsMade,
      addedAt: job.timestamp,
      priority: job.priority,
      order: nextOrder(job.processedOn ?? 0),
      data: job.data as unknown,
      deferredFailure: job.deferredFailure ?? null,
    };
  }

  /** Lets go of what is remembered of a claim that was lost. */
  forget(ref: ClaimRef): void {
    this.#held.delete(ref.token);
  }
}
