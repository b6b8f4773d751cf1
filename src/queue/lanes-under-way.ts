import type { Lane } from "./claim-fairly.ts";

/** How many deliveries a courier has under way, by client and origin. */
export class LanesUnderWay {
  readonly #lanes = new Map<string, readonly [lane: Lane, count: number]>();

  counts(): readonly (readonly [lane: Lane, count: number])[] {
    return [...this.#lanes.values()];
  }

  /** Returns what is called when it has ended. */
  enter(lane: Lane): () => void {
    this.#add(lane, 1);
    return () => this.#add(lane, -1);
  }

  #add(lane: Lane, by: number): void {
    const key = `${lane.client} ${lane.origin}`;
    const count = (this.#lanes.get(key)?.[1] ?? 0) + by;
    if (count === 0) this.#lanes.delete(key);
    else this.#lanes.set(key, [lane, count]);
  }
}
