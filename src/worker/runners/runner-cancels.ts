import type { Schedule } from "./runner-types.ts";

export interface RunnerCancelsOptions {
  readonly graceMs: number;
  readonly schedule: Schedule;
  /** The work of this cancelled job went on beyond the grace. */
  readonly onMissed: (id: string) => void;
}

/**
 * Cancels of a batch whose jobs have not ended yet. The grace of one runs while the work under way is its job's: from the cancel, where that
 * work is for cancelled jobs alone and so is ended, and else from its next step, since one that others share goes on. While only
 * others are worked for, nothing of the job is ignored; whether that work hangs is for the stage's deadline to say.
 */
export class RunnerCancels {
  readonly #options: RunnerCancelsOptions;
  /** By job: what stops its grace, null while that does not run. */
  readonly #graces = new Map<string, (() => void) | null>();
  #work: readonly string[] = [];

  constructor(options: RunnerCancelsOptions) {
    this.#options = options;
  }

  /** The jobs that the work from now on is for. */
  work(ids: readonly string[]): void {
    this.#work = ids;
    for (const id of this.#graces.keys()) if (!ids.includes(id)) this.#stop(id);
    this.stepped();
  }

  /** A step of that work is over, and the next one begins. */
  stepped(): void {
    for (const id of this.#work) this.#start(id);
  }

  begin(id: string): void {
    if (this.#graces.has(id)) return;
    this.#graces.set(id, null);
    this.#startIfAlone();
  }

  has(id: string): boolean {
    return this.#graces.has(id);
  }

  ended(id: string): void {
    this.#stop(id);
    this.#graces.delete(id);
    this.#work = this.#work.filter((other) => other !== id);
    this.#startIfAlone();
  }

  clear(): void {
    for (const id of this.#graces.keys()) this.#stop(id);
    this.#graces.clear();
    this.#work = [];
  }

  #startIfAlone(): void {
    if (this.#work.every((id) => this.#graces.has(id))) for (const id of this.#work) this.#start(id);
  }

  #start(id: string): void {
    const { schedule, graceMs, onMissed } = this.#options;
    if (this.#graces.get(id) === null)
      this.#graces.set(
        id,
        schedule(() => onMissed(id), graceMs),
      );
  }

  #stop(id: string): void {
    const stopTimer = this.#graces.get(id);
    if (stopTimer === undefined || stopTimer === null) return;
    stopTimer();
    this.#graces.set(id, null);
  }
}
