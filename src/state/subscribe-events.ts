import type { Redis } from "ioredis";
import { EventOrder } from "../core/event-order.ts";
import { parseEvent, type JobEvent } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { readLive } from "./read-live.ts";
import { onRedis } from "./redis-error.ts";

export interface SubscribeOptions {
  /** A connection in subscriber mode, of this subscription alone. */
  readonly subscriber: Redis;
  readonly redis: Redis;
  readonly keys: Keys;
  readonly client: string;
  /** Only this request's events; the iteration ends after its `done` or `error`. */
  readonly id: string;
  readonly signal: AbortSignal;
}

/**
 * The events of one request, the last value first: subscribed before that value is read, so that nothing falls between the two. In order
 * of `seq`, each once, none of an older claim than one seen. @throws the signal's reason
 */
export async function* subscribeEvents(options: SubscribeOptions): AsyncGenerator<JobEvent, void, undefined> {
  const { subscriber, redis, keys, id, signal } = options;
  const channel = keys.events(options.client);
  const inbox: JobEvent[] = [];
  let wake = Promise.withResolvers<void>();
  const onMessage = (from: string, text: string): void => {
    if (from !== channel) return;
    const event = parseEvent(text);
    if (event?.id !== id) return;
    inbox.push(event);
    wake.resolve();
  };
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  aborted.promise.catch(() => undefined);
  signal.throwIfAborted();
  signal.addEventListener("abort", onAbort, { once: true });
  subscriber.on("message", onMessage);
  try {
    // Waits for Redis if it is away; an abort must not wait with it.
    await Promise.race([onRedis("subscribing to events", () => subscriber.subscribe(channel)), aborted.promise]);
    const live = await readLive(redis, keys, id);
    if (live !== null) inbox.unshift(live.preview === null ? live.event : { ...live.event, preview: live.preview });
    const order = new EventOrder();
    for (;;) {
      for (let heard = inbox.shift(); heard !== undefined; heard = inbox.shift()) {
        const event = order.take(heard);
        if (event === null) continue;
        yield event;
        if (event.type === "done" || event.type === "error") return;
      }
      await Promise.race([wake.promise, aborted.promise]);
      wake = Promise.withResolvers<void>();
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    subscriber.off("message", onMessage);
    // Not waited for: while Redis is away a subscription cannot even be given up.
    subscriber.unsubscribe(channel).catch(() => undefined);
  }
}
