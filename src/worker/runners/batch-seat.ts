import { AppError, type ErrorData } from "../../protocol/error.ts";
import type { JobDoneMessage, RunnerJob } from "../../protocol/ipc.ts";
import type { PooledRunner } from "./runner-pool.ts";
import type { RunnerEvent } from "./runner-types.ts";

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

/** expected -- run --> came -- all have come --> running -- end --> ended; left from `expected`, when disposed. */
export class BatchSeat implements Seat {
  readonly runner: PooledRunner;
  readonly #onChange: () => void;
  readonly #outcome = Promise.withResolvers<RunOutcome>();
  #abort: () => void = () => undefined;
  #member: Member | null = null;
  state: "expected" | "came" | "running" | "ended" | "left" = "expected";

  constructor(runner: PooledRunner, onChange: () => void) {
    this.runner = runner;
    this.#onChange = onChange;
  }

  get member(): Member {
    if (this.#member === null) throw new AppError("INTERNAL", "a seat that nobody took was asked who took it; this is a bug");
    return this.#member;
  }

  run(member: Member): Promise<RunOutcome> {
    this.#member = member;
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
    if (this.#member?.signal.aborted === true) abort();
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
