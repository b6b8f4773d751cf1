import { AppError } from "../../protocol/error.ts";

/** A run that the guard watches. */
export interface GuardedRun extends Disposable {
  /** Null unless the signal that the run began under has aborted, whatever is watched by now. */
  cancelled(): AppError | null;
}

/** Ends native runs, and loads of graphs, when a signal aborts: it is asked before each of them, and called during it. */
export class RunGuard {
  #signal: AbortSignal | null = null;

  watch(signal: AbortSignal | null): void {
    this.#signal = signal;
  }

  /** For the time of one run or load. @throws AppError CANCELLED */
  begin(terminate: () => void, what = "the run"): GuardedRun {
    const signal = this.#signal;
    if (signal?.aborted === true) throw new AppError("CANCELLED", `${what} was not begun: it was cancelled before`);
    signal?.addEventListener("abort", terminate, { once: true });
    return {
      cancelled: () =>
        signal?.aborted === true ? new AppError("CANCELLED", `${what} was ended in the middle of the graph, as asked`) : null,
      [Symbol.dispose]: () => signal?.removeEventListener("abort", terminate),
    };
  }
}
