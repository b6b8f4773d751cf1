import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";

/** Secrets that all gateways and couriers of one system share, made by whoever asks first. */
export interface Secrets {
  /** 64 hex digits, the same for every caller of that name, for ever. @throws AppError REDIS_UNAVAILABLE */
  get(name: "result-links" | "app-secret" | "system"): Promise<string>;
}

export function openSecrets(options: { readonly redis: Redis; readonly keys: Keys }): Secrets {
  const { redis, keys } = options;
  const known = new Map<string, string>();
  return {
    get: async (name) => {
      const found = known.get(name) ?? (await onRedis(`reading secret ${name}`, () => readOrMake(redis, keys.secret(name))));
      known.set(name, found);
      return found;
    },
  };
}

async function readOrMake(redis: Redis, key: string): Promise<string> {
  const made = randomBytes(32).toString("hex");
  await redis.set(key, made, "NX");
  const found = await redis.get(key);
  if (found === null) throw new Error(`${key} vanished right after it was written: is an eviction policy active?`);
  return found;
}
