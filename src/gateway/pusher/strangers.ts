interface Stranger {
  readonly network: string;
  /** Milliseconds. */
  readonly since: number;
}

/**
 * Sockets that have shown no key yet, in the order in which they came. At most so many of one network: a further one displaces the oldest of
 * them, so that idle ones never keep out a client that has a key and shows it at once.
 */
export class Strangers<S> {
  readonly #maxPerNetwork: number;
  readonly #all = new Map<S, Stranger>();
  readonly #byNetwork = new Map<string, Set<S>>();

  constructor(maxPerNetwork: number) {
    this.#maxPerNetwork = maxPerNetwork;
  }

  /** @returns the one that has to make room, no stranger any more; null when there is room */
  add(socket: S, stranger: Stranger): S | null {
    const ofNetwork = this.#byNetwork.get(stranger.network) ?? new Set<S>();
    const displaced = ofNetwork.size >= this.#maxPerNetwork ? (firstOf(ofNetwork) ?? null) : null;
    if (displaced !== null) this.delete(displaced);
    this.#all.set(socket, stranger);
    this.#byNetwork.set(stranger.network, ofNetwork.add(socket));
    return displaced;
  }

  delete(socket: S): void {
    const stranger = this.#all.get(socket);
    if (stranger === undefined) return;
    this.#all.delete(socket);
    const ofNetwork = this.#byNetwork.get(stranger.network);
    ofNetwork?.delete(socket);
    if (ofNetwork?.size === 0) this.#byNetwork.delete(stranger.network);
  }

  /** The oldest of all, no stranger any more; null when there is none. */
  takeOldest(): S | null {
    const oldest = firstOf(this.#all.keys()) ?? null;
    if (oldest !== null) this.delete(oldest);
    return oldest;
  }

  /** Those that came at `since` or before, no strangers any more. */
  takeUntil(since: number): readonly S[] {
    const late: S[] = [];
    for (const [socket, stranger] of this.#all) {
      if (stranger.since > since) break;
      late.push(socket);
    }
    for (const socket of late) this.delete(socket);
    return late;
  }
}

function firstOf<T>(values: Iterable<T>): T | undefined {
  for (const value of values) return value;
  return undefined;
}
