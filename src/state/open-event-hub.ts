import type { Redis } from "ioredis";
import { EventOrder } from "../core/event-order.ts";
import { steadyNow } from "../lib/steady-clock.ts";
import { parseEvent, type JobEvent } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";

export interface EventListener {
  readonly onEvent: (event: JobEvent) => void;
  /** Events since `lostAt` (`steadyNow`) may have been missed: Redis was away. Called when events come again. */
  readonly onGap: (lostAt: number) => void;
}

export interface EventSubscription {
  /** Resolves when no event is missed any more; while Redis is away it waits. Never rejects. */
  readonly active: Promise<void>;
  end(): void;
}

/** The events of any number of clients over one connection. Only clients that somebody listens to are subscribed to. */
export interface EventHub {
  listen(client: string, listener: EventListener): EventSubscription;
}

export interface EventHubOptions {
  /** A connection of the hub's own. */
  readonly subscriber: Redis;
  readonly keys: Keys;
  /** How often the connection is tried. */
  readonly heartbeatMs?: number;
}

const HEARTBEAT_MS = 10_000;

/** Ends with its connection. */
export function openEventHub({ subscriber, keys, heartbeatMs = HEARTBEAT_MS }: EventHubOptions): EventHub {
  const channels = new Map<string, { readonly listeners: Set<EventListener>; readonly active: Promise<void> }>();
  const order = new EventOrder();
  subscriber.on("message", (channel: string, text: string) => {
    const listeners = channels.get(channel)?.listeners;
    const parsed = listeners === undefined ? null : parseEvent(text);
    const event = parsed === null ? null : order.take(parsed);
    if (event !== null) for (const { onEvent } of listeners ?? []) onEvent(event);
  });
  const subscribe = (names: readonly string[]): Promise<void> =>
    // When it fails, the connection was lost: the next one subscribes to all channels again.
    subscriber.subscribe(...names).then(
      () => undefined,
      () => undefined,
    );
  watchConnection(subscriber, heartbeatMs);
  onReturn(subscriber, async (lostAt) => {
    const names = [...channels.keys()];
    // ioredis subscribes again by itself; this is to know when it is done.
    if (names.length > 0) await subscribe(names);
    for (const name of names) for (const { onGap } of channels.get(name)?.listeners ?? []) onGap(lostAt);
  });
  return {
    listen: (client, listener) => {
      const name = keys.events(client);
      const channel = channels.get(name) ?? { listeners: new Set(), active: subscribe([name]) };
      channels.set(name, channel);
      channel.listeners.add(listener);
      return {
        active: channel.active,
        end: () => {
          channel.listeners.delete(listener);
          if (channel.listeners.size > 0 || channels.get(name) !== channel) return;
          channels.delete(name);
          subscriber.unsubscribe(name).catch(() => undefined);
        },
      };
    },
  };
}

/** Calls `then` each time that a connection is there again, with the time at which it was lost (`steadyNow`). */
export function onReturn(redis: Redis, then: (lostAt: number) => void | Promise<void>): void {
  let lostAt: number | null = null;
  let wasReady = redis.status === "ready";
  redis.on("close", () => {
    if (wasReady) lostAt ??= steadyNow();
  });
  redis.on("ready", () => {
    wasReady = true;
    const since = lostAt;
    lostAt = null;
    if (since !== null) void then(since);
  });
}

/** A subscriber sends nothing, so that it would not notice for minutes that its peer is gone. One that does not answer connects anew. */
export function watchConnection(subscriber: Redis, everyMs: number): void {
  let isUnanswered = false;
  const timer = setInterval(() => {
    if (subscriber.status !== "ready") isUnanswered = false;
    else if (isUnanswered) {
      isUnanswered = false;
      subscriber.disconnect(true);
    } else {
      isUnanswered = true;
      subscriber.ping().then(
        () => (isUnanswered = false),
        () => undefined,
      );
    }
  }, everyMs).unref();
  subscriber.once("end", () => clearInterval(timer));
}
