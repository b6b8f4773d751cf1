import type { AppError } from "../../protocol/error.ts";
import type { Schedule } from "./runner-types.ts";

interface Ping {
  readonly resolve: (opMs: number) => void;
  readonly reject: (error: AppError) => void;
  readonly stopTimer: () => void;
}

/** Pings under way, by nonce. */
export class RunnerPings {
  readonly #open = new Map<number, Ping>();
  readonly #schedule: Schedule;
  #count = 0;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  /** A nonce to send, and the answer to come. */
  begin(timeoutMs: number, onMissed: () => void): { readonly nonce: number; readonly answer: Promise<number> } {
    this.#count += 1;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#open.set(this.#count, { resolve, reject, stopTimer: this.#schedule(onMissed, timeoutMs) });
    return { nonce: this.#count, answer: promise };
  }

  answered(nonce: number, opMs: number): void {
    const ping = this.#open.get(nonce);
    this.#open.delete(nonce);
    ping?.stopTimer();
    ping?.resolve(opMs);
  }

  failAll(error: AppError): void {
    for (const ping of this.#open.values()) {
      ping.stopTimer();
      ping.reject(error);
    }
    this.#open.clear();
  }
}
