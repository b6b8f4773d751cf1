import { AppError } from "../../src/protocol/error.ts";
import type { Requests } from "../../src/state/state-types.ts";

export class FakeRequests implements Requests {
  readonly cancelled = new Set<string>();
  readonly started = new Map<string, number>();
  /** How long ago jobs were started before, as Redis reckons it. */
  elapsedMs = 0;
  /** Called when a start is marked, before it is. */
  onStart: (id: string) => void | Promise<void> = () => undefined;
  /** Redis is away. */
  isAway = false;

  async now(): Promise<number> {
    this.#mustAnswer();
    return Date.now();
  }

  create(): Promise<boolean> {
    return Promise.reject(new Error("not the worker's"));
  }

  creation(): never {
    throw new Error("not the worker's");
  }

  get(): Promise<null> {
    return Promise.resolve(null);
  }

  async markStarted(id: string, at: number): Promise<{ readonly first: boolean; readonly elapsedMs: number }> {
    this.#mustAnswer();
    await this.onStart(id);
    const first = !this.started.has(id);
    if (first) this.started.set(id, at);
    return { first, elapsedMs: this.elapsedMs };
  }

  async markCancelled(id: string): Promise<boolean> {
    this.cancelled.add(id);
    return true;
  }

  async cancelledAmong(ids: readonly string[]): Promise<ReadonlySet<string>> {
    this.#mustAnswer();
    return new Set(ids.filter((id) => this.cancelled.has(id)));
  }

  #mustAnswer(): void {
    if (this.isAway) throw new AppError("REDIS_UNAVAILABLE", "requests: Redis does not answer");
  }
}
