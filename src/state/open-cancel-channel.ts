import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import type { CancelChannel } from "./state-types.ts";

/** `subscriber` is a connection in subscriber mode; ioredis subscribes it again after a reconnect. */
export function openCancelChannel(options: { readonly redis: Redis; readonly subscriber: Redis; readonly keys: Keys }): CancelChannel {
  const { redis, subscriber, keys } = options;
  return {
    nudge: async (id) => {
      await onRedis(`telling workers that request ${id} is cancelled`, () => redis.publish(keys.cancel, id));
    },
    listen: async (onCancel, signal) => {
      const onMessage = (channel: string, id: string): void => {
        if (channel === keys.cancel) onCancel(id);
      };
      const aborted = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => aborted.resolve(), { once: true });
      if (signal.aborted) return;
      subscriber.on("message", onMessage);
      try {
        // Waits for Redis if it is away; an abort must not wait with it.
        await Promise.race([subscriber.subscribe(keys.cancel), aborted.promise]);
        await aborted.promise;
      } finally {
        subscriber.off("message", onMessage);
      }
    },
  };
}
