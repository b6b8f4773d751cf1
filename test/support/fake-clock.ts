import type { Sleep } from "../../src/lib/backoff.ts";

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

/** Time that passes only when the test says so. */
export class FakeClock {
  now = 0;
  readonly #sleepers = new Set<Sleeper>();

  /** Sleeps under way. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  readonly sleep: Sleep = async (ms, signal) => {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper = { at: this.now + ms, wake: resolve };
    this.#sleepers.add(sleeper);
    const onAbort = (): void => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      this.#sleepers.delete(sleeper);
      signal?.removeEventListener("abort", onAbort);
    }
  };

  advance(ms: number): void {
    this.now += ms;
    for (const { at, wake } of this.#sleepers) if (at <= this.now) wake();
  }
}
