import type { Redis } from "ioredis";
import { parseEvent } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";

/**
 * Of these requests, those of which a worker has told something and that go on by its last word, or whose end was told after `since` (unix
 * ms). The order stays. A hint: what is true of a request is for readState to say.
 */
export async function readUnfinished(redis: Redis, keys: Keys, ids: readonly string[], since: number): Promise<readonly string[]> {
  if (ids.length === 0) return [];
  const answers = await onRedis("reading the live values of requests", async () => {
    const pipeline = redis.pipeline();
    for (const id of ids) pipeline.hmget(keys.live(id), "ended", "event");
    const results = (await pipeline.exec()) ?? [];
    return results.map(([error, fields]) => {
      // One live value of another type says nothing about the others.
      if (error?.message.includes("WRONGTYPE") === true) return [];
      if (error !== null) throw error;
      return fields as readonly (string | null)[];
    });
  });
  return ids.filter((_, index) => {
    const [ended, event] = answers[index] ?? [];
    return ended === "0" || (ended === "1" && (parseEvent(event ?? "")?.at ?? 0) >= since);
  });
}
