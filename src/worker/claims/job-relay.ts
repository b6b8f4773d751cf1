import { flush, MAX_PROGRESS_PER_SECOND, offer, openGate, type GateStep, type RateGate } from "../../core/rate-gate.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { asAppError } from "../../protocol/error.ts";
import { MAX_PREVIEW_BYTES, MAX_PREVIEWS_PER_SECOND, type JobEventDraft } from "../../protocol/event.ts";
import type { HeldJob } from "./held-job.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { RunnerEvent } from "../runners/runner-types.ts";

interface Lane {
  gate: RateGate<JobEventDraft>;
  timer: NodeJS.Timeout | undefined;
}

type Progress = Extract<RunnerEvent, { type: "progress" }>;
type Preview = Extract<RunnerEvent, { type: "preview" }>;

/**
 * Passes a running job's progress and previews on to Redis, each at its own rate, newest first. An event that cannot be sent is dropped:
 * the next one supersedes it. An answer that the lock is not ours, or that the job is cancelled, is told to the keeper.
 */
export class JobRelay implements AsyncDisposable {
  readonly #context: WorkerContext;
  readonly #job: HeldJob;
  readonly #onLockDoubt: () => void;
  readonly #now: () => number;
  readonly #progress: Lane = { gate: openGate(MAX_PROGRESS_PER_SECOND), timer: undefined };
  readonly #preview: Lane = { gate: openGate(MAX_PREVIEWS_PER_SECOND), timer: undefined };
  #percent = 0;
  #stage = "";
  #isRecorded = false;
  #closed = false;
  readonly #closing = Promise.withResolvers<void>();
  /** The last send failed: Redis is away, or hangs and makes every send wait. */
  #away = false;
  #pending = 0;
  /** Sends follow one another, so that events reach Redis in their order. */
  #sending: Promise<void> = Promise.resolve();

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(context: WorkerContext, job: HeldJob, onLockDoubt: () => void, now: () => number = steadyNow) {
    this.#now = now;
    this.#context = context;
    this.#job = job;
    this.#onLockDoubt = onLockDoubt;
  }

  get percent(): number {
    return this.#percent;
  }

  /** `processing`: once, when the job is dispatched. No event is sent before the start is recorded: what a poll says must not fall behind. */
  started(recorded: Promise<unknown>): void {
    this.#sending = Promise.race([recorded.then(() => (this.#isRecorded = true)), this.#closing.promise]).then(() => undefined);
    this.#send({ ...this.#base(), type: "processing" });
  }

  /** A stage has begun; told even if no step of it ever ends. */
  stage(stage: string): void {
    if (stage === this.#stage) return;
    this.#stage = stage;
    this.#offer(this.#progress, { ...this.#base(), type: "progress", stage });
  }

  progress(event: Progress): void {
    this.#stage = event.stage;
    this.#percent = Math.max(this.#percent, Math.min(100, event.fraction * 100));
    const { stage, step, steps } = event;
    this.#offer(this.#progress, { ...this.#base(), type: "progress", stage, step, steps });
  }

  preview(event: Preview): void {
    if (event.jpeg.byteLength > MAX_PREVIEW_BYTES) {
      this.#context.metrics.previews.inc({ result: "oversize" });
      return;
    }
    const preview = Buffer.from(event.jpeg.buffer, event.jpeg.byteOffset, event.jpeg.byteLength).toString("base64");
    if (this.#preview.gate.held !== null) this.#context.metrics.previews.inc({ result: "dropped" });
    this.#offer(this.#preview, { ...this.#base(), type: "preview", step: event.step, preview });
  }

  /** Nothing is sent after this, so that no event follows the terminal one. Resolves when the last send has settled. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#closing.resolve();
    for (const lane of [this.#progress, this.#preview]) clearTimeout(lane.timer);
    await this.#sending;
  }

  #base(): Pick<JobEventDraft, "id" | "claim" | "progress"> {
    return { id: this.#job.id, claim: this.#job.claim.claim, progress: this.#percent };
  }

  #offer(lane: Lane, draft: JobEventDraft): void {
    if (this.#closed) return;
    this.#take(lane, offer(lane.gate, draft, this.#now()));
  }

  #take(lane: Lane, step: GateStep<JobEventDraft>): void {
    lane.gate = step.gate;
    if (step.item !== null) this.#send(step.item);
    if (step.dueAt === null || lane.timer !== undefined) return;
    lane.timer = setTimeout(() => {
      lane.timer = undefined;
      this.#take(lane, flush(lane.gate, this.#now()));
    }, step.dueAt - this.#now());
  }

  #send(draft: JobEventDraft): void {
    if (this.#closed) return;
    this.#pending += 1;
    this.#sending = this.#sending.then(() => this.#emit(draft)).finally(() => (this.#pending -= 1));
  }

  async #emit(draft: JobEventDraft): Promise<void> {
    // While Redis is away only the newest is tried, and none for the sake of a job that has ended: nothing must wait for events.
    if (this.#job.abortReason?.code === "LOCK_LOST" || (this.#away && (this.#closed || this.#pending > 1))) return;
    // Its end is told before its start was recorded: then it never started for anybody.
    if (this.#closed && !this.#isRecorded) return;
    const { queue, token, claim } = this.#job.claim;
    try {
      const answer = await this.#context.emitter.emit({ id: this.#job.id, queue, token, claim, client: this.#job.data.client }, draft);
      this.#away = false;
      if (draft.type === "preview") this.#context.metrics.previews.inc({ result: answer.lockHeld ? "sent" : "dropped" });
      if (!answer.lockHeld || answer.cancelled) this.#onLockDoubt();
    } catch (thrown) {
      this.#away = true;
      if (draft.type === "preview") this.#context.metrics.previews.inc({ result: "dropped" });
      this.#job.log.debug({ err: asAppError(thrown), type: draft.type }, "an event was not sent");
    }
  }
}
