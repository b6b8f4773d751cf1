import { AppError } from "../protocol/error.ts";
import { EXIT } from "./exit-codes.ts";

export interface Interrupt extends Disposable {
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
}

/** npm and our launcher pass signals on that a terminal has sent to us already: such echoes come within milliseconds. */
const ECHO_MS = 300;

/** First Ctrl-C: the command ends in order. A second one leaves at once. */
export function onInterrupt(): Interrupt {
  const asked = new AbortController();
  let askedAt = 0;
  const handler = (): void => {
    if (!asked.signal.aborted) {
      askedAt = performance.now();
      asked.abort(new AppError("CANCELLED", "interrupted"));
    } else if (performance.now() - askedAt > ECHO_MS) {
      process.exit(EXIT.interrupted);
    }
  };
  process.on("SIGINT", handler);
  process.on("SIGTERM", handler);
  return {
    signal: asked.signal,
    [Symbol.dispose]: () => {
      process.off("SIGINT", handler);
      process.off("SIGTERM", handler);
    },
  };
}
