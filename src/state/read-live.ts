import type { Redis } from "ioredis";
import type { JobEvent } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import type { LiveValue } from "./state-types.ts";

/** The last event of a request and its last preview; null before the first one and after their time to live. */
export async function readLive(redis: Redis, keys: Keys, id: string): Promise<LiveValue | null> {
  const [event, preview] = await onRedis(`reading the live value of request ${id}`, () => redis.hmget(keys.live(id), "event", "preview"));
  return typeof event === "string" ? { event: JSON.parse(event) as JobEvent, preview: preview ?? null } : null;
}
