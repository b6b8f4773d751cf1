import { endedWithin } from "./within.ts";

export interface BoundedStackOptions {
  /** Longest wait for all that is closed. */
  readonly ms: number;
  /** Told what failed to close, or that it had not closed in time. */
  readonly onProblem?: (thrown: unknown) => void;
}

/**
 * As AsyncDisposableStack, for a program whose end must not depend on what it opened: closing takes so long at most, and a failure to close
 * never hides why the program ends. What is left open goes with the process.
 */
export class BoundedStack extends AsyncDisposableStack {
  readonly #options: BoundedStackOptions;

  constructor(options: BoundedStackOptions) {
    super();
    this.#options = options;
  }

  override async disposeAsync(): Promise<void> {
    const { ms, onProblem } = this.#options;
    const closed = super.disposeAsync();
    closed.catch((thrown: unknown) => onProblem?.(thrown));
    if (!(await endedWithin(ms, closed))) onProblem?.(new Error(`not everything had closed after ${ms} ms`));
  }

  override [Symbol.asyncDispose](): Promise<void> {
    return this.disposeAsync();
  }
}
