import type { Redis } from "ioredis";
import { parseEvent } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { isUnreadable, orUnreadable } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";
import type { LiveValue } from "./state-types.ts";

/**
 * The last event of a request and its last preview; null before the first one, after their time to live, and where this program cannot read
 * it: what is true of a request stands elsewhere.
 */
export async function readLive(redis: Redis, keys: Keys, id: string): Promise<LiveValue | null> {
  const fields = await orUnreadable(
    onRedis(`reading the live value of request ${id}`, () => redis.hmget(keys.live(id), "event", "preview")),
  );
  if (isUnreadable(fields)) return null;
  const [text, preview] = fields;
  const event = parseEvent(text ?? "");
  return event === null ? null : { event, preview: preview ?? null };
}
