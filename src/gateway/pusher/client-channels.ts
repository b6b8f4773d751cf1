import { PUSHER_CODES, type PusherProblem } from "../../protocol/pusher.ts";
import type { EventHub } from "../../state/open-event-hub.ts";
import { ClientChannel } from "./client-channel.ts";
import type { RequestUpdates } from "./request-updates.ts";
import type { SocketSession } from "./socket-session.ts";
import { toUpdate } from "./update-payload.ts";

export interface ChannelsOptions {
  readonly hub: EventHub;
  readonly updates: RequestUpdates;
  readonly maxSocketsPerClient: number;
  /** So many frames were handed to sessions. */
  readonly onSent: (count: number) => void;
}

/** Which sessions hear of which client's requests. Each event is worded once, however many sockets get it. */
export class ClientChannels {
  readonly #options: ChannelsOptions;
  /** A socket counts for its clients until it ends, also while it is not subscribed: it may come back at any time. */
  readonly #sockets = new Map<string, Set<SocketSession>>();
  readonly #channels = new Map<string, { readonly channel: ClientChannel; readonly end: () => void }>();

  constructor(options: ChannelsOptions) {
    this.#options = options;
  }

  /** From now on the session hears of the client's requests, first of those that run. */
  join(client: string, session: SocketSession): PusherProblem | null {
    const sockets = this.#sockets.get(client) ?? new Set();
    if (!sockets.has(session) && sockets.size >= this.#options.maxSocketsPerClient) return PUSHER_CODES.overQuota;
    this.#sockets.set(client, sockets.add(session));
    const { channel } = this.#channels.get(client) ?? this.#open(client);
    channel.add(session);
    return null;
  }

  leave(client: string, session: SocketSession): void {
    const found = this.#channels.get(client);
    if (found?.channel.delete(session) !== true || found.channel.size > 0) return;
    found.end();
    found.channel.close();
    this.#channels.delete(client);
  }

  /** The session's connection is gone. */
  ended(clients: ReadonlySet<string>, session: SocketSession): void {
    for (const client of clients) {
      const sockets = this.#sockets.get(client);
      sockets?.delete(session);
      if (sockets?.size === 0) this.#sockets.delete(client);
    }
  }

  #open(client: string): { readonly channel: ClientChannel; readonly end: () => void } {
    const { hub, updates, onSent } = this.#options;
    const subscription = hub.listen(client, {
      onGap: (lostAt) => channel.gap(lostAt),
      onEvent: (event) => {
        const payload = updates.ofEvent(event);
        // Only the last event of a request is worded later, so that the order stays.
        if (payload instanceof Promise)
          void payload.then((worded) => worded !== null && channel.publish(toUpdate(client, worded, event.seq)));
        else if (payload !== null) channel.publish(toUpdate(client, payload, event.seq));
      },
    });
    const channel = new ClientChannel({
      client,
      active: subscription.active,
      present: (since) => updates.present(client, since),
      onSent,
    });
    const opened = { channel, end: () => subscription.end() };
    this.#channels.set(client, opened);
    return opened;
  }
}
