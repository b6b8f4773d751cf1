import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";

export interface QueueHandles extends AsyncDisposable {
  /** BullMQ's objects, for the operator's dashboard alone: nothing else may act past our verbs. */
  readonly queues: readonly Queue[];
}

export function openQueueHandles(options: { readonly redis: Redis; readonly keys: Keys; readonly names: readonly string[] }): QueueHandles {
  const queues = options.names.map((name) => {
    const queue = new Queue(name, { connection: options.redis, prefix: options.keys.prefix });
    queue.on("error", () => undefined);
    return queue;
  });
  return {
    queues,
    [Symbol.asyncDispose]: async () => {
      await Promise.allSettled(queues.map((queue) => queue.close()));
    },
  };
}
