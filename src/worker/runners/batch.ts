import { randomUUID } from "node:crypto";
import { toErrorData, type ErrorData } from "../../protocol/error.ts";
import type { JobDoneMessage, RunnerJob } from "../../protocol/ipc.ts";
import type { PooledRunner } from "./runner-pool.ts";
import type { JobEnd, RunnerEvent } from "./runner-types.ts";

/** How one run of one job ended. */
export type RunOutcome =
  /** The runner waits until `recorded` is called: the files are its until then. */
  | { readonly kind: "done"; readonly done: JobDoneMessage; readonly recorded: () => void }
  /** `alone`: the job ran by itself, not as one of several. */
  | { readonly kind: "failed"; readonly error: ErrorData; readonly alone: boolean }
  /** The runner ended first, for no fault of this job, or the job was aborted before it was dispatched. */
  | { readonly kind: "not-run" };

export interface Member {
  readonly job: RunnerJob;
  /** Aborting it cancels the job's run. */
  readonly signal: AbortSignal;
  /** Called once all members have come, just before the runner gets them. Must not reject. */
  readonly onStart: () => Promise<void>;
  readonly onEvent: (event: RunnerEvent) => void;
}

/** A place in a batch that is being put together. Disposing it before `run` leaves the batch; afterwards it does nothing. */
export interface Seat extends Disposable {
  readonly runner: PooledRunner;
  /** Resolves when the job's run has ended, however it did; never rejects. Call it once. */
  run(member: Member): Promise<RunOutcome>;
}

/**
 * The meeting point of a batch. Claims take seats while the batch is open and come with their inputs when they have them; once it is
 * closed and every seat has come or left, the runner gets them all, and each member gets its own outcome.
 *
 *   seat() ... seat() -- close() --> (all have come or left) --> onStart of each --> runner --> outcomes --> report
 */
export class Batch {
  readonly runner: PooledRunner;
  readonly #onStage: (stage: string) => void;
  readonly #seats: BatchSeat[] = [];
  readonly #end = Promise.withResolvers<{ readonly reusable: boolean }>();
  #closed = false;
  #gone = false;

  /** `onStage`: told once per stage of the whole batch. */
  constructor(runner: PooledRunner, options: { readonly onStage: (stage: string) => void }) {
    this.runner = runner;
    this.#onStage = options.onStage;
  }

  /** Seats taken so far. */
  get size(): number {
    return this.#seats.length;
  }

  seat(): Seat {
    const seat = new BatchSeat(this.runner, () => this.#goWhenAllCame());
    this.#seats.push(seat);
    return seat;
  }

  /** No more seats. Resolves when the runner is done with the batch, to whether it may be used again; never rejects. */
  close(): Promise<{ readonly reusable: boolean }> {
    this.#closed = true;
    this.#goWhenAllCame();
    return this.#end.promise;
  }

  #goWhenAllCame(): void {
    if (!this.#closed || this.#gone || this.#seats.some((seat) => seat.state === "expected")) return;
    this.#gone = true;
    const members = this.#seats.filter((seat) => seat.state === "came");
    for (const seat of members) seat.state = "running";
    void this.#go(members).then((reusable) => this.#end.resolve({ reusable }));
  }

  /** True when the runner may be used again. */
  async #go(seats: readonly BatchSeat[]): Promise<boolean> {
    const { process } = this.runner;
    try {
      await Promise.all(seats.map((seat) => seat.member?.onStart()));
      const members = seats.filter((seat) => seat.state === "running");
      if (process.state !== "ready" || members.length === 0) return process.state === "ready";
      return await this.#dispatch(new Map(members.map((seat) => [seat.member?.job.id ?? "", seat])));
    } catch (thrown) {
      // Nothing of the child comes here: an error around it (no file descriptor left, a bug). All that were inside have failed with it.
      for (const seat of seats) seat.end({ kind: "failed", error: toErrorData(thrown), alone: seats.length === 1 });
      return false;
    } finally {
      for (const seat of seats) seat.end({ kind: "not-run" });
    }
  }

  async #dispatch(seats: ReadonlyMap<string, BatchSeat>): Promise<boolean> {
    const { process } = this.runner;
    const alone = seats.size === 1;
    const settle = (id: string, outcome: JobEnd): Promise<void> | undefined => {
      const seat = seats.get(id);
      if (outcome.kind !== "done") return void seat?.end({ kind: "failed", error: outcome.error, alone });
      const { promise, resolve } = Promise.withResolvers<void>();
      seat?.end({ kind: "done", done: outcome.message, recorded: resolve });
      return promise;
    };
    const running = process.runBatch({
      batch: randomUUID(),
      jobs: [...seats.values()].flatMap(({ member }) => (member === null ? [] : [member.job])),
      onEvent: (event) => this.#onEvent(seats, event),
      onJobEnd: settle,
    });
    for (const [id, seat] of seats) seat.onAbort(() => process.cancel(id));
    const end = await running;
    for (const [id, outcome] of end.jobs) {
      // Killed for another job's cancel, or by this daemon: a job inside did nothing wrong.
      const innocent = outcome.kind === "unfinished" && end.exit?.crashed === false;
      if (outcome.kind !== "done") seats.get(id)?.end(innocent ? { kind: "not-run" } : { kind: "failed", error: outcome.error, alone });
    }
    return end.reusable;
  }

  #onEvent(seats: ReadonlyMap<string, BatchSeat>, event: RunnerEvent): void {
    if (event.type !== "stage") return seats.get(event.id)?.member?.onEvent(event);
    this.#onStage(event.stage);
    for (const { member } of seats.values()) member?.onEvent(event);
  }
}

/** expected -- run --> came -- all have come --> running -- end --> ended; left from `expected`, when disposed. */
class BatchSeat implements Seat {
  readonly runner: PooledRunner;
  readonly #onChange: () => void;
  readonly #outcome = Promise.withResolvers<RunOutcome>();
  #abort: () => void = () => undefined;
  member: Member | null = null;
  state: "expected" | "came" | "running" | "ended" | "left" = "expected";

  constructor(runner: PooledRunner, onChange: () => void) {
    this.runner = runner;
    this.#onChange = onChange;
  }

  run(member: Member): Promise<RunOutcome> {
    this.member = member;
    this.state = "came";
    // Before the dispatch an abort ends the wait: nobody waits for the inputs of others.
    this.#abort = () => this.end({ kind: "not-run" });
    const onAbort = (): void => this.#abort();
    member.signal.addEventListener("abort", onAbort, { once: true });
    if (member.signal.aborted) onAbort();
    this.#onChange();
    return this.#outcome.promise.finally(() => member.signal.removeEventListener("abort", onAbort));
  }

  /** What an abort does from now on; at once when it has come already. */
  onAbort(abort: () => void): void {
    this.#abort = abort;
    if (this.member?.signal.aborted === true) abort();
  }

  end(outcome: RunOutcome): void {
    if (this.state === "ended" || this.state === "left") return;
    this.state = "ended";
    this.#outcome.resolve(outcome);
    this.#onChange();
  }

  [Symbol.dispose](): void {
    if (this.state !== "expected") return;
    this.state = "left";
    this.#onChange();
  }
}
