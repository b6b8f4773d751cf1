import { decide } from "../../core/scheduler.ts";
import type { Effect, SchedulerEvent, SchedulerState } from "../../core/scheduler-state.ts";
import { steadyNow } from "../../lib/steady-clock.ts";

type Untimed<E> = E extends unknown ? Omit<E, "at"> : never;
/** An event without its time, which the loop adds. */
export type SchedulerNews = Untimed<SchedulerEvent>;

/**
 * The one owner of the scheduler's state: applies events in the order they come and has the effects carried out in theirs. An effect
 * that answers at once (by telling the next event) is queued behind the present one, never nested.
 */
export class SchedulerLoop {
  readonly #perform: (effect: Effect) => void;
  readonly #inbox: SchedulerEvent[] = [];
  #state: SchedulerState;
  #running = false;
  #wake: NodeJS.Timeout | undefined;
  readonly #now: () => number;
  #closed = false;
  /** `steadyNow` of the last event: liveness. */
  toldAt: number;

  /** `now` never goes back: a clock that is set would starve, unload or back off everything. */
  constructor(state: SchedulerState, perform: (effect: Effect) => void, now: () => number = steadyNow) {
    this.#state = state;
    this.#perform = perform;
    this.#now = now;
    this.toldAt = now();
  }

  get state(): SchedulerState {
    return this.#state;
  }

  tell(news: SchedulerNews): void {
    this.#inbox.push({ ...news, at: this.#now() });
    if (this.#running) return;
    this.#running = true;
    try {
      for (let event = this.#inbox.shift(); event !== undefined; event = this.#inbox.shift()) this.#apply(event);
    } finally {
      this.#running = false;
    }
  }

  /** No timer of its own any more; what is told is still applied. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#wake);
  }

  #apply(event: SchedulerEvent): void {
    this.toldAt = event.at;
    const { state, effects } = decide(this.#state, event);
    this.#state = state;
    for (const effect of effects) {
      if (effect.type === "wake-at") this.#wakeAt(effect.at);
      else this.#perform(effect);
    }
  }

  #wakeAt(at: number): void {
    clearTimeout(this.#wake);
    if (this.#closed) return;
    this.#wake = setTimeout(() => this.tell({ type: "tick" }), Math.max(1, Math.min(at - this.#now(), 60_000)));
  }
}
