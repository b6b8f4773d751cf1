/** Answers that may be a moment old: each is kept for `ttlMs`, at most `max` of them, the oldest going first. */
export class ShortCache<K, V> {
  readonly #ttlMs: number;
  readonly #max: number;
  readonly #now: () => number;
  readonly #entries = new Map<K, { readonly value: V; readonly until: number }>();

  constructor(options: { readonly ttlMs: number; readonly max: number; readonly now?: () => number }) {
    this.#ttlMs = options.ttlMs;
    this.#max = options.max;
    this.#now = options.now ?? (() => performance.now());
  }

  get(key: K): V | undefined {
    const found = this.#entries.get(key);
    if (found === undefined) return undefined;
    if (this.#now() < found.until) return found.value;
    this.#entries.delete(key);
    return undefined;
  }

  delete(key: K): void {
    this.#entries.delete(key);
  }

  set(key: K, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, until: this.#now() + this.#ttlMs });
    const oldest = this.#entries.size > this.#max ? this.#entries.keys().next() : null;
    if (oldest?.done === false) this.#entries.delete(oldest.value);
  }
}
