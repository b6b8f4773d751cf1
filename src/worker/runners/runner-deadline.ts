import type { Schedule } from "./runner-types.ts";

export const realSchedule: Schedule = (run, delayMs) => {
  const timer = setTimeout(run, delayMs);
  return () => clearTimeout(timer);
};

/**
 * One timer that every sign of life winds up again. When it runs out, messages that have already arrived get a turn before it counts:
 * a daemon that was itself suspended (a closed laptop, SIGSTOP) must not kill a healthy runner on waking.
 */
export class Deadline {
  readonly #schedule: Schedule;
  readonly #onMissed: (what: string, limitMs: number) => void;
  #stop: (() => void) | null = null;
  #armed = 0;

  constructor(schedule: Schedule, onMissed: (what: string, limitMs: number) => void) {
    this.#schedule = schedule;
    this.#onMissed = onMissed;
  }

  arm(what: string, limitMs: number): void {
    this.clear();
    const turn = this.#armed;
    this.#stop = this.#schedule(() => {
      // Two turns of the loop: the pipe is read in the first, the message is delivered at the latest in the second.
      setImmediate(() => setImmediate(() => this.#elapsed(turn, what, limitMs)));
    }, limitMs);
  }

  clear(): void {
    this.#armed += 1;
    this.#stop?.();
    this.#stop = null;
  }

  #elapsed(turn: number, what: string, limitMs: number): void {
    if (turn === this.#armed) this.#onMissed(what, limitMs);
  }
}
