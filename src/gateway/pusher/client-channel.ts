import { steadyNow } from "../../lib/steady-clock.ts";
import type { PresentUpdate } from "./request-updates.ts";
import type { SocketSession, Update } from "./socket-session.ts";
import { toUpdate } from "./update-payload.ts";

export interface ChannelOptions {
  readonly client: string;
  /** Resolves when no event is missed any more; never rejects. */
  readonly active: Promise<void>;
  /** The client's running requests and those that ended after `since` (`steadyNow`). May reject: it is tried again. */
  readonly present: (since: number) => Promise<readonly PresentUpdate[]>;
  readonly onSent: (count: number) => void;
  /** Default: `steadyNow`. */
  readonly now?: () => number;
}

/**
 * Whoever subscribes is told of ends that were so recent too: they fell into the time in which it submitted, or reconnected. An outage is
 * noticed later than it began.
 */
export const RECENT_END_MS = 30_000;
const RETRY_MS = 1_000;
/** More than this that comes while the present state is read is not kept back. */
const MOST_EARLY = 5_000;

/**
 * The sessions that hear of one client's requests. A session that has joined is told the present state first; what comes meanwhile
 * waits, so that nothing is missed, and nothing older follows something newer. Sessions that join together share one reading.
 */
export class ClientChannel {
  readonly #options: ChannelOptions;
  /** What came for a session before it was told the present state; null when it was. */
  readonly #sessions = new Map<SocketSession, Update[] | null>();
  #since = Infinity;
  #isTelling = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(options: ChannelOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#sessions.size;
  }

  add(session: SocketSession): void {
    this.#sessions.set(session, []);
    this.#askSince((this.#options.now ?? steadyNow)() - RECENT_END_MS);
  }

  delete(session: SocketSession): boolean {
    return this.#sessions.delete(session);
  }

  publish(update: Update): void {
    for (const [session, early] of this.#sessions) {
      if (early === null) session.update(update);
      else if (early.length < MOST_EARLY) early.push(update);
      else this.#goLive(session, [...early, update], []);
    }
    this.#options.onSent(this.#sessions.size);
  }

  /** Events since then (`steadyNow`) may have been missed. */
  gap(lostAt: number): void {
    this.#tellAllSince(lostAt - RECENT_END_MS);
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#sessions.clear();
  }

  #askSince(since: number): void {
    this.#since = Math.min(this.#since, since);
    if (!this.#isTelling) void this.#tell();
  }

  #tellAllSince(since: number): void {
    for (const [session, early] of this.#sessions) this.#sessions.set(session, early ?? []);
    this.#askSince(since);
  }

  async #tell(): Promise<void> {
    this.#isTelling = true;
    await this.#options.active;
    for (let waiting = this.#waiting(); waiting.length > 0; waiting = this.#waiting()) {
      const since = this.#since;
      this.#since = Infinity;
      const present = await this.#read(since);
      for (const [session, early] of waiting) {
        // One that left and came back meanwhile waits for a reading of its own.
        if (this.#sessions.get(session) === early) this.#goLive(session, early, present ?? []);
      }
      if (present !== null) continue;
      // Redis is away: what comes is told, and the present state when it can be read.
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.#tellAllSince(since), RETRY_MS).unref();
    }
    this.#isTelling = false;
  }

  #waiting(): readonly (readonly [SocketSession, Update[]])[] {
    return [...this.#sessions].flatMap(([session, early]) => (early === null ? [] : [[session, early] as const]));
  }

  async #read(since: number): Promise<readonly Update[] | null> {
    const { present, client } = this.#options;
    try {
      return (await present(since)).map(({ payload, seq }) => toUpdate(client, payload, seq));
    } catch {
      return null;
    }
  }

  #goLive(session: SocketSession, early: readonly Update[], present: readonly Update[]): void {
    this.#sessions.set(session, null);
    const told = new Map(present.map(({ requestId, seq }) => [requestId, seq]));
    const fresh = early.filter(({ requestId, seq }) => seq > (told.get(requestId) ?? 0));
    for (const update of [...present, ...fresh]) session.update(update);
    this.#options.onSent(present.length);
  }
}
