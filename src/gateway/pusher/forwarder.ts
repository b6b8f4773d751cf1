import { randomUUID } from "node:crypto";
import { EventOrder } from "../../core/event-order.ts";
import { sleep } from "../../lib/backoff.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { parseEvent, type JobEvent } from "../../protocol/event.ts";
import type { RealtimeTarget } from "../../protocol/pusher-api.ts";
import { onReturn, watchConnection } from "../../state/open-event-hub.ts";
import { openLease, type Lease } from "../../state/open-lease.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { RECENT_END_MS } from "./client-channel.ts";
import { Outbox } from "./outbox.ts";
import type { RequestUpdates } from "./request-updates.ts";

const LEASE_MS = 10_000;
const HEARTBEAT_MS = 10_000;
/** Ends that wait for the other server get so long when the gateway ends. */
const FLUSH_MS = 3_000;

/**
 * Sends the events of all clients to another Pusher server. Of several gateways one does it, by a lease in Redis:
 *
 *   waits -- lease free --> leads: tells what runs and what has just ended, then each event -- lease lost, or stop --> waits
 */
export class Forwarder {
  readonly #context: GatewayContext;
  readonly #updates: RequestUpdates;
  readonly #outbox: Outbox;
  readonly #order = new EventOrder();
  #leads = false;

  constructor(context: GatewayContext, target: RealtimeTarget, updates: RequestUpdates) {
    this.#context = context;
    this.#updates = updates;
    this.#outbox = new Outbox(context, target);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { redis, keys } = this.#context;
    const lease = openLease({ redis, key: keys.forwarder, holder: randomUUID(), ttlMs: LEASE_MS });
    this.#listen();
    while (!signal.aborted) {
      const led = this.#leads;
      this.#leads = await lease.hold().catch(() => false);
      if (this.#leads && !led) void this.#tellPresent(steadyNow() - RECENT_END_MS);
      await sleep(LEASE_MS / 5, signal).catch(() => undefined);
    }
    await this.#end(lease);
  }

  async #end(lease: Lease): Promise<void> {
    await using _connections = this.#outbox;
    if (!this.#leads) return;
    this.#leads = false;
    await this.#outbox.flushed(FLUSH_MS);
    await lease.release().catch(() => undefined);
  }

  #listen(): void {
    const { keys, connectSubscriber } = this.#context;
    const prefix = keys.events("");
    const subscriber = connectSubscriber();
    subscriber.on("pmessage", (_pattern: string, channel: string, text: string) => {
      const parsed = parseEvent(text);
      const event = parsed === null ? null : this.#order.take(parsed);
      if (event !== null && this.#leads) void this.#tell(channel.slice(prefix.length), event);
    });
    const pattern = `${prefix}*`;
    subscriber.psubscribe(pattern).catch(() => undefined);
    watchConnection(subscriber, HEARTBEAT_MS);
    onReturn(subscriber, async (lostAt) => {
      await subscriber.psubscribe(pattern).catch(() => undefined);
      if (this.#leads) await this.#tellPresent(lostAt - RECENT_END_MS);
    });
  }

  async #tell(client: string, event: JobEvent): Promise<void> {
    const payload = await this.#updates.ofEvent(event);
    if (payload !== null) this.#outbox.put({ client, payload, seq: event.seq });
  }

  /** What happened while nobody forwarded. */
  async #tellPresent(since: number): Promise<void> {
    try {
      for (const { id: client } of await this.#context.clients.list()) {
        if (!this.#leads) return;
        // Also of a client whose own record cannot be read: its events are told all the same.
        for (const present of await this.#updates.present(client, since)) this.#outbox.put({ client, ...present });
      }
    } catch {
      // Redis is away again: its return is told.
    }
  }
}
