import { createHash } from "node:crypto";
import type { Redis } from "ioredis";
import { AppError } from "../protocol/error.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";

export type IdempotencyAnswer =
  /** The first with this key: go on under this id. */
  | { readonly kind: "new" }
  /** The same request again: it has this id. */
  | { readonly kind: "same"; readonly requestId: string }
  /** Another request under the same key. */
  | { readonly kind: "conflict" };

/** `Idempotency-Key`: the same key with the same content within 24 h is the same request. */
export interface Idempotency {
  /** `fingerprint`: a digest of the canonical fields and file hashes. @throws AppError REDIS_UNAVAILABLE */
  claim(at: {
    readonly client: string;
    readonly key: string;
    readonly fingerprint: string;
    readonly requestId: string;
  }): Promise<IdempotencyAnswer>;
  /** The request was refused after all: the key is free again, unless it stands for another request. */
  release(at: { readonly client: string; readonly key: string; readonly requestId: string }): Promise<void>;
}

const TTL_MS = 86_400_000;

/** KEYS: entry. ARGV: fingerprint, request id, ttl ms. Returns what stands there: fingerprint, request id, and 1 if it is new. */
const CLAIM = new RedisScript(`
local found = redis.call('HMGET', KEYS[1], 'fingerprint', 'request_id')
if found[1] then return {found[1], found[2], 0} end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'request_id', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {ARGV[1], ARGV[2], 1}`);

/** KEYS: entry. ARGV: request id. */
const RELEASE = new RedisScript(`
if redis.call('HGET', KEYS[1], 'request_id') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`);

export function openIdempotency(options: { readonly redis: Redis; readonly keys: Keys }): Idempotency {
  const { redis, keys } = options;
  const entry = (client: string, key: string): string => keys.idempotency(client, createHash("sha256").update(key).digest("hex"));
  return {
    claim: async ({ client, key, fingerprint, requestId }) => {
      const [found, id, fresh] = (await onRedis("claiming an idempotency key", () =>
        CLAIM.run(redis, [entry(client, key)], [fingerprint, requestId, TTL_MS]),
      )) as [string, string | null, number];
      if (fresh === 1) return { kind: "new" };
      if (typeof id !== "string" || id === "")
        throw new AppError("RECORD_UNREADABLE", `the idempotency key of request ${requestId} is taken by a record that names no request`);
      return found === fingerprint ? { kind: "same", requestId: id } : { kind: "conflict" };
    },
    release: async ({ client, key, requestId }) => {
      await onRedis("releasing an idempotency key", () => RELEASE.run(redis, [entry(client, key)], [requestId]));
    },
  };
}
