import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import { z } from "zod";
import { ShortCache } from "../lib/short-cache.ts";
import type { Keys } from "../protocol/keys.ts";
import { readStored, storedNumber, unixMs } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "./redis-script.ts";

/** Events in a row of which no attempt arrived, after which an account's URL is switched off. */
export const MAX_EXHAUSTED = 10;

/** A change of an account's webhook holds for what other gateways accept after so long. */
const KNOWN_MS = 1_000;

/** Longer than the schedule of the attempts. */
const SCHEDULE_MS = 36 * 3_600_000;

export interface WebhookTarget {
  readonly url: string;
  /** Name of the stored secret; null: unsigned. */
  readonly secretRef: string | null;
}

/** An account's webhook. */
export interface WebhookSettings {
  readonly url: string;
  readonly enabled: boolean;
  /** Events in a row of which no attempt arrived. */
  readonly failureCount: number;
  /** Unix milliseconds; null unless it was switched off by its failures. */
  readonly disabledAt: number | null;
  /** Unix milliseconds. */
  readonly updatedAt: number;
}

const settingsSchema: z.ZodType<WebhookSettings> = z.object({
  url: z.string(),
  enabled: z.boolean(),
  failureCount: z.number(),
  disabledAt: unixMs.nullable(),
  updatedAt: unixMs,
});

export interface SettingsChange {
  readonly url: string;
  readonly enabled: boolean;
  /** A new secret for what is not delivered yet, too. Made also when there is none. */
  readonly rotateSecret: boolean;
  /** Unix milliseconds. */
  readonly at: number;
}

/** Where webhooks go and what signs them. Secrets are stored by name, so that no job or record holds one. */
export interface Webhooks {
  /**
   * The target of a request, fixed at its submit: its own URL, else the account's while that is enabled, else null. The secret of a
   * request is kept as long as its record may be delivered.
   */
  freezeTarget(request: {
    readonly client: string;
    readonly requestId: string;
    readonly url: string | null;
    readonly secret: string | null;
  }): Promise<WebhookTarget | null>;
  /** Null when it expired or its account's webhook was removed. */
  readSecret(ref: string): Promise<string | null>;
  accountSecretRef(client: string): string;
  settings(client: string): Promise<WebhookSettings | null>;
  /** Returns the secret when it was made now: it is shown only then. Switching on resets the count of failures. */
  change(client: string, change: SettingsChange): Promise<{ readonly secret: string | null }>;
  remove(client: string): Promise<void>;
  /** An event arrived at this URL: the account's count starts anew. */
  recordSuccess(client: string, url: string): Promise<void>;
  /** No attempt of an event arrived. True when that has switched the account's URL off. */
  recordExhausted(client: string, url: string, at: number): Promise<boolean>;
}

/** KEYS: settings. ARGV: url, unix ms, limit. A URL that is not the account's any more counts for nothing. */
const EXHAUSTED = new RedisScript(`
if redis.call('HGET', KEYS[1], 'url') ~= ARGV[1] then return 0 end
local count = redis.call('HINCRBY', KEYS[1], 'failures', 1)
if count < tonumber(ARGV[3]) or redis.call('HGET', KEYS[1], 'enabled') ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'enabled', '0', 'disabled_at', ARGV[2])
return 1`);

/** KEYS: settings. ARGV: url. */
const SUCCESS = new RedisScript(`
if redis.call('HGET', KEYS[1], 'url') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'failures', '0')
return 1`);

/** KEYS: settings, secret. ARGV: url, enabled, unix ms, new secret, rotate (1 or 0). Returns 1 when the new secret was taken. */
const CHANGE = new RedisScript(`
redis.call('HSET', KEYS[1], 'url', ARGV[1], 'enabled', ARGV[2], 'updated_at', ARGV[3])
if ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'failures', '0', 'disabled_at', '') end
if ARGV[5] == '0' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[2], ARGV[4])
return 1`);

const accountRef = (client: string): string => `client:${client}`;

/** Whether a target is its account's webhook, not a URL of the request's own. */
export function isAccountTarget(client: string, secretRef: string | null): boolean {
  return secretRef === accountRef(client);
}

/** `retentionMs`: how long request records live; secrets of requests outlive them by as much, for what ends late. */
export function openWebhooks(options: { readonly redis: Redis; readonly keys: Keys; readonly retentionMs: number }): Webhooks {
  const { redis, keys, retentionMs } = options;
  const known = new ShortCache<string, WebhookTarget | null>({ ttlMs: KNOWN_MS, max: 10_000 });
  const accountTarget = async (client: string): Promise<WebhookTarget | null> => {
    const cached = known.get(client);
    if (cached !== undefined) return cached;
    const account = await settings(client);
    const target = account?.enabled === true ? { url: account.url, secretRef: accountRef(client) } : null;
    known.set(client, target);
    return target;
  };
  const settings = async (client: string): Promise<WebhookSettings | null> => {
    const hash = await onRedis(`reading the webhook of client ${client}`, () => redis.hgetall(keys.hook(client)));
    return hash["url"] === undefined ? null : fromHash(hash["url"], hash);
  };
  return {
    settings,
    accountSecretRef: accountRef,
    freezeTarget: async ({ client, requestId, url, secret }) => {
      if (url === null) return accountTarget(client);
      if (secret === null) return { url, secretRef: null };
      const ref = `request:${requestId}`;
      await onRedis(`storing the webhook secret of request ${requestId}`, () =>
        redis.set(keys.hookSecret(ref), secret, "PX", 2 * retentionMs + SCHEDULE_MS),
      );
      return { url, secretRef: ref };
    },
    readSecret: (ref) => onRedis(`reading webhook secret ${ref}`, () => redis.get(keys.hookSecret(ref))),
    change: async (client, { url, enabled, rotateSecret, at }) => {
      const secret = newSecret();
      const args = [url, enabled ? "1" : "0", at, secret, rotateSecret ? "1" : "0"];
      const taken = await onRedis(`changing the webhook of client ${client}`, () =>
        CHANGE.run(redis, [keys.hook(client), keys.hookSecret(accountRef(client))], args),
      );
      known.delete(client);
      return { secret: taken === 1 ? secret : null };
    },
    remove: async (client) => {
      await onRedis(`removing the webhook of client ${client}`, () => redis.del(keys.hook(client), keys.hookSecret(accountRef(client))));
      known.delete(client);
    },
    recordSuccess: async (client, url) => {
      await onRedis(`counting a delivery of client ${client}`, () => SUCCESS.run(redis, [keys.hook(client)], [url]));
    },
    recordExhausted: async (client, url, at) => {
      const switchedOff = await onRedis(`counting a failed delivery of client ${client}`, () =>
        EXHAUSTED.run(redis, [keys.hook(client)], [url, at, MAX_EXHAUSTED]),
      );
      if (switchedOff === 1) known.delete(client);
      return switchedOff === 1;
    },
  };
}

/** In the form of Standard Webhooks: 32 random bytes. */
function newSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

function fromHash(url: string, hash: Readonly<Record<string, string>>): WebhookSettings {
  return readStored(
    "the account's webhook",
    { schema: settingsSchema, newest: 1 },
    {
      url,
      enabled: hash["enabled"] === "1",
      failureCount: storedNumber(hash["failures"]) ?? 0,
      disabledAt: storedNumber(hash["disabled_at"]),
      updatedAt: storedNumber(hash["updated_at"]) ?? 0,
    },
  );
}
