import { constants } from "node:os";
import { AppError } from "../protocol/error.ts";

/** What a command hears of signals that end it, from `ProcessSignals.ask` on. */
export interface Asked extends Disposable {
  /** Aborted by the first SIGTERM or SIGINT: end in order. */
  readonly first: AbortSignal;
  /** Aborted by the second, for commands with such patience: end now. */
  readonly second: AbortSignal;
  /**
   * What SIGHUP does from now on. Without a terminal nobody hung up: an operator asks (`systemctl reload`). From a terminal that was closed
   * it asks for the end, as SIGTERM does.
   */
  onReload(reload: () => void): void;
}

export interface SignalSource {
  on(signal: NodeJS.Signals, listener: (signal: NodeJS.Signals) => void): unknown;
}

export interface ProcessSignalsOptions {
  readonly source?: SignalSource;
  readonly exit?: (code: number) => void;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  readonly hasTerminal?: boolean;
}

interface Asking {
  readonly patience: 1 | 2;
  readonly first: AbortController;
  readonly second: AbortController;
  reload: (() => void) | null;
}

/** npm and our launcher pass signals on that a terminal has sent to us already: such echoes come within milliseconds. */
export const ECHO_MS = 300;

/**
 * The only owner of this process's signals, from its first moment on: as PID 1 of a container a process without a handler cannot be ended
 * at all. While no command asks to be told, the first signal ends the process at once with 128 + its number; afterwards one more than the
 * command has patience for does.
 */
export class ProcessSignals {
  readonly #exit: (code: number) => void;
  readonly #now: () => number;
  readonly #hasTerminal: boolean;
  readonly #source: SignalSource;
  /** 128 + the number of the signal that was heard first; 0 before one was. */
  exitCode = 0;
  #asking: Asking | null = null;
  #heard = 0;
  #heardAt = Number.NEGATIVE_INFINITY;
  #hearsHangUp = false;

  constructor(options: ProcessSignalsOptions = {}) {
    this.#source = options.source ?? process;
    this.#exit = options.exit ?? ((code) => process.exit(code));
    this.#now = options.now ?? (() => performance.now());
    this.#hasTerminal = options.hasTerminal ?? process.stdin.isTTY;
    for (const signal of ["SIGTERM", "SIGINT"] as const) this.#source.on(signal, (heard) => this.#onEnd(heard));
  }

  /** `patience`: how many signals the command answers itself; the next one ends the process at once. */
  ask({ patience }: { readonly patience: 1 | 2 }): Asked {
    const asking: Asking = { patience, first: new AbortController(), second: new AbortController(), reload: null };
    this.#asking = asking;
    this.#heard = 0;
    return {
      first: asking.first.signal,
      second: asking.second.signal,
      onReload: (reload) => {
        asking.reload = reload;
        if (this.#hearsHangUp) return;
        this.#hearsHangUp = true;
        this.#source.on("SIGHUP", (heard) => this.#onHangUp(heard));
      },
      [Symbol.dispose]: () => {
        if (this.#asking === asking) this.#asking = null;
      },
    };
  }

  #onEnd(signal: NodeJS.Signals): void {
    const at = this.#now();
    const isEcho = this.#heard > 0 && at - this.#heardAt <= ECHO_MS;
    if (isEcho) return;
    this.#heardAt = at;
    this.#heard += 1;
    const asking = this.#asking;
    const code = 128 + constants.signals[signal];
    if (this.exitCode === 0) this.exitCode = code;
    if (asking === null || this.#heard > asking.patience) {
      this.#exit(code);
    } else if (this.#heard === 1) {
      asking.first.abort(new AppError("CANCELLED", `interrupted by ${signal}`));
    } else {
      asking.second.abort(new AppError("CANCELLED", `interrupted again, by ${signal}`));
    }
  }

  #onHangUp(signal: NodeJS.Signals): void {
    if (this.#hasTerminal || this.#asking === null) this.#onEnd(signal);
    else this.#asking.reload?.();
  }
}

let ours: ProcessSignals | null = null;

/** This process's signals; the first call takes them over. */
export function processSignals(): ProcessSignals {
  return (ours ??= new ProcessSignals());
}
