import type { JobEvent } from "../protocol/event.ts";

interface Seen {
  readonly seq: number;
  readonly claim: number;
  /** A worker was heard to begin the request. */
  readonly begun: boolean;
}

/** Requests that are remembered until their end is heard; those that were heard of longest ago are forgotten first. */
const MOST_REMEMBERED = 20_000;

/**
 * The events of any number of requests as a client may see them: none twice, none out of order, none of a claim that is over, and one
 * `processing` a request. A claim after the first begins with a `progress` instead.
 */
export class EventOrder {
  readonly #seen = new Map<string, Seen>();
  readonly #most: number;

  constructor(most: number = MOST_REMEMBERED) {
    this.#most = most;
  }

  /** The event to be told; null for one that is to be dropped. */
  take(event: JobEvent): JobEvent | null {
    const { id, seq, claim, type } = event;
    const last = this.#seen.get(id);
    if (last !== undefined && (seq <= last.seq || claim < last.claim)) return null;
    // Of a request that was not heard of before, only the first event of all can be its beginning.
    const isRepeat = type === "processing" && (last === undefined ? seq > 1 : last.begun);
    this.#seen.delete(id);
    if (type === "done" || type === "error") return event;
    this.#seen.set(id, { seq, claim, begun: last?.begun === true || type !== "requeued" });
    if (this.#seen.size > this.#most) this.#seen.delete(this.#seen.keys().next().value ?? "");
    return isRepeat ? { ...event, type: "progress" } : event;
  }
}
