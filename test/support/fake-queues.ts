import type { JobView } from "../../src/core/job-state.ts";
import { AppError, type ErrorData } from "../../src/protocol/error.ts";
import { JOB_VERSION, type JobData } from "../../src/protocol/job.ts";
import type { JobResult } from "../../src/protocol/result.ts";
import type { AddOptions, Claim, ClaimRef, OrderedClaim, QueuePeek, Queues } from "../../src/queue/queue-types.ts";

type Verb = "claim" | "renew" | "complete" | "fail" | "retry" | "handBack" | "delay" | "adopt" | "peek" | "job" | "announceStart";

/** How Redis fails a verb: before it took effect, after (its answer is lost), or by no answer at all until it is mended. */
export type Cut = "before" | "after" | "hang";

interface Entry {
  readonly data: JobData;
  readonly priority: number;
  state: JobView["state"];
  claim: number;
  attemptsMade: number;
  /** Token of the lock, null once it has expired or is gone. */
  lock: string | null;
  delayMs: number | null;
  stalls: number;
  deferredFailure: string | null;
  error: ErrorData | null;
  result: JobResult | null;
}

interface Failure {
  readonly how: Cut;
  readonly verbs: readonly Verb[] | null;
  readonly mended: PromiseWithResolvers<void>;
  left: number;
}

export function fakeJobData(id: string, fields: Partial<JobData> = {}): JobData {
  const fixed = { v: JOB_VERSION, task: "txt2img", client: "tester", params: {}, inputs: [], timeoutMs: 60_000, submittedAt: 1 } as const;
  return { ...fixed, id, model: "fake", ...fields };
}

/**
 * BullMQ's meaning in memory: states, claim numbers, attempts, lock tokens, adoption and the stalled check. Nothing happens by itself:
 * locks expire, stalled jobs come back and delays end when the test says so.
 */
export class FakeQueues implements Queues {
  /** Every verb that took effect, `<verb> <id>#<claim>`, in order. */
  readonly did: string[] = [];
  /** Every claim, renewal, complete ... that was asked for, whether it took effect or not. */
  readonly asked: Verb[] = [];
  readonly #jobs = new Map<string, Entry>();
  /** Ids that wait, the next first. */
  #waiting: string[] = [];
  #failures: Failure[] = [];
  #order = 0;
  readonly maxStalled: number;

  constructor(options: { readonly maxStalled?: number } = {}) {
    this.maxStalled = options.maxStalled ?? 3;
  }

  /** Redis fails these verbs (all, when none is named), so many times or until the returned function mends it. */
  cut(how: Cut, options: { readonly verbs?: readonly Verb[]; readonly times?: number } = {}): () => void {
    const failure: Failure = { how, verbs: options.verbs ?? null, left: options.times ?? Infinity, mended: Promise.withResolvers() };
    this.#failures.push(failure);
    return () => {
      this.#failures = this.#failures.filter((each) => each !== failure);
      failure.mended.resolve();
    };
  }

  entry(id: string): Readonly<Entry> {
    const entry = this.#jobs.get(id);
    if (entry === undefined) throw new Error(`the fake queues hold no job ${id}`);
    return entry;
  }

  get waiting(): readonly string[] {
    return this.#waiting;
  }

  verbsOf(id: string): readonly string[] {
    return this.did.filter((verb) => verb.includes(` ${id}#`));
  }

  /** The lock's time is over; the job is still active. */
  expireLock(id: string): void {
    this.#change(id, { lock: null });
  }

  /** The stalled check of some worker: a job without a lock waits again. */
  stall(id: string): void {
    const { stalls } = this.entry(id);
    const tooOften = stalls + 1 > this.maxStalled;
    this.#change(id, { lock: null, state: "waiting", stalls: stalls + 1 });
    if (tooOften) this.#change(id, { deferredFailure: "job stalled more than allowable limit" });
    this.#waiting = [id, ...this.#waiting.filter((each) => each !== id)];
  }

  /** All delays are over. */
  ripen(): void {
    for (const [id, entry] of this.#jobs) {
      if (entry.state !== "delayed") continue;
      this.#change(id, { state: "waiting", delayMs: null });
      this.#waiting.push(id);
    }
  }

  /** The next job, which must be there. */
  async take(model = "fake"): Promise<Claim> {
    const claim = await this.claim(model);
    if (claim === null) throw new Error(`nothing waits in queue ${model}`);
    return claim;
  }

  addRecorded(): never {
    throw new Error("not the worker's");
  }

  async add(data: JobData, options?: AddOptions): Promise<void> {
    if (this.#jobs.has(data.id)) return;
    const fresh = { claim: 0, attemptsMade: 0, lock: null, delayMs: null, stalls: 0, deferredFailure: null, error: null, result: null };
    this.#jobs.set(data.id, { data, priority: options?.priority ?? 1, state: "waiting", ...fresh });
    this.#waiting.push(data.id);
  }

  announceStart(data: JobData): Promise<void> {
    return this.#verb("announceStart", () => void this.did.push(`announceStart ${data.id}#`));
  }

  deliverAgain(): Promise<void> {
    return Promise.reject(new Error("not the worker's"));
  }

  claim(model: string): Promise<Claim | null> {
    return this.#verb("claim", () => {
      const id = this.#waiting.find((each) => this.entry(each).data.model === model);
      if (id === undefined) return null;
      this.#waiting = this.#waiting.filter((each) => each !== id);
      const claim = this.entry(id).claim + 1;
      this.#change(id, { state: "active", claim, lock: `${id}/${claim}` });
      return this.#claimOf(id);
    });
  }

  renew(claims: readonly ClaimRef[]): Promise<readonly ClaimRef[]> {
    return this.#verb("renew", () => claims.filter((ref) => !this.#isLocked(ref)));
  }

  complete(claim: ClaimRef, result: JobResult): Promise<void> {
    return this.#locked("complete", claim, { state: "completed", result });
  }

  fail(claim: ClaimRef, error: ErrorData): Promise<void> {
    return this.#locked("fail", claim, { state: "failed", error });
  }

  retry(claim: ClaimRef, error: ErrorData, delayMs: number): Promise<void> {
    const attemptsMade = (this.#jobs.get(claim.id)?.attemptsMade ?? 0) + 1;
    return this.#locked("retry", claim, { state: "delayed", delayMs, error, attemptsMade });
  }

  delay(claim: ClaimRef, delayMs: number): Promise<void> {
    return this.#locked("delay", claim, { state: "delayed", delayMs });
  }

  handBack(claim: OrderedClaim): Promise<void> {
    return this.#locked("handBack", claim, { state: "waiting" }, () => this.#waiting.unshift(claim.id));
  }

  adopt(ref: ClaimRef): Promise<Claim | null> {
    return this.#verb("adopt", () => {
      const entry = this.#jobs.get(ref.id);
      if (entry?.state !== "active" || entry.claim !== ref.claim || (entry.lock ?? ref.token) !== ref.token) return null;
      this.#change(ref.id, { lock: ref.token });
      return this.#claimOf(ref.id);
    });
  }

  peek(models: readonly string[]): Promise<readonly QueuePeek[]> {
    return this.#verb("peek", () =>
      models.map((model) => {
        const ids = this.#waiting.filter((id) => this.entry(id).data.model === model);
        const [first] = ids;
        const head = first === undefined ? null : { id: first, addedAt: 1 };
        return { model, waiting: ids.length, head, topPriority: 1, dueInMs: null, paused: false };
      }),
    );
  }

  job(_queue: string, id: string): Promise<JobView | null> {
    return this.#verb("job", () => {
      const entry = this.#jobs.get(id);
      if (entry === undefined) return null;
      const { state, attemptsMade, claim, result, error } = entry;
      const failedReason = error === null ? null : JSON.stringify(error);
      return { state, attemptsMade, claim, result, failedReason, addedAt: 1, processedAt: null, finishedAt: null };
    });
  }

  removeQueued(): Promise<"removed" | "active" | "gone"> {
    return Promise.reject(new Error("not the worker's"));
  }

  async recoverStalled(): Promise<void> {
    for (const [id, { state, lock }] of this.#jobs) if (state === "active" && lock === null) this.stall(id);
  }

  position(): Promise<number | null> {
    return Promise.reject(new Error("not the worker's"));
  }

  longUnservable(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  sweep(): Promise<number> {
    return Promise.resolve(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mended } of this.#failures) mended.resolve();
    this.#failures = [];
  }

  #locked(verb: Verb, ref: ClaimRef, change: Partial<Entry>, also: () => void = () => undefined): Promise<void> {
    return this.#verb(verb, () => {
      if (!this.#isLocked(ref)) throw new AppError("LOCK_LOST", `${verb} of job ${ref.id}: the lock is not ours`);
      this.#change(ref.id, { lock: null, ...change });
      also();
      this.did.push(`${verb} ${ref.id}#${ref.claim}`);
    });
  }

  async #verb<T>(verb: Verb, act: () => T): Promise<T> {
    this.asked.push(verb);
    const failure = this.#failures.find(({ verbs, left }) => left > 0 && (verbs === null || verbs.includes(verb)));
    if (failure === undefined) return act();
    failure.left -= 1;
    if (failure.how === "after") act();
    if (failure.how === "hang") await failure.mended.promise;
    throw new AppError("REDIS_UNAVAILABLE", `${verb}: Redis does not answer`);
  }

  #isLocked({ id, token }: ClaimRef): boolean {
    const entry = this.#jobs.get(id);
    return entry?.state === "active" && entry.lock === token;
  }

  #change(id: string, change: Partial<Entry>): void {
    this.#jobs.set(id, { ...this.entry(id), ...change });
  }

  #claimOf(id: string): Claim {
    const { data, claim, attemptsMade, priority, deferredFailure } = this.entry(id);
    this.#order += 1;
    const token = `${id}/${claim}`;
    return { id, queue: data.model, token, claim, order: this.#order, data, attemptsMade, addedAt: 1, priority, deferredFailure };
  }
}
