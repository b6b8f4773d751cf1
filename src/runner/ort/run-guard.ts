import { AppError } from "../../protocol/error.ts";

/** Ends native runs when a signal aborts: it is asked before each run, and called during it. */
export class RunGuard {
  #signal: AbortSignal | null = null;

  watch(signal: AbortSignal | null): void {
    this.#signal = signal;
  }

  /** Null unless the signal has aborted. */
  cancelled(): AppError | null {
    if (this.#signal?.aborted !== true) return null;
    return new AppError("CANCELLED", "the run was ended in the middle of the graph, as asked");
  }

  /** For the time of one run. @throws AppError CANCELLED */
  begin(terminate: () => void): Disposable {
    const cancelled = this.cancelled();
    if (cancelled !== null) throw cancelled;
    const signal = this.#signal;
    signal?.addEventListener("abort", terminate, { once: true });
    return { [Symbol.dispose]: () => signal?.removeEventListener("abort", terminate) };
  }
}
