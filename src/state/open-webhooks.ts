import type { Redis } from "ioredis";
import { ShortCache } from "../lib/short-cache.ts";
import type { Keys } from "../protocol/keys.ts";
import { DEFAULT_OVERLAP_MS, newSecret, openWebhookSecrets, type WebhookSecrets } from "./open-webhook-secrets.ts";
import { onRedis } from "./redis-error.ts";
import { hashFromPairs } from "../lib/redis-script.ts";
import { CHANGE, EXHAUSTED, GONE, SETTINGS, SUCCESS } from "./webhook-scripts.ts";
import { readWebhookSettings, URL_FIELDS, type WebhookSettings } from "./webhook-settings.ts";
import { accountRef, goneKey, hashOfUrl, requestRef, secretKeys, type WebhookTarget } from "./webhook-targets.ts";

/** Events in a row of which no attempt arrived, after which an account's URL is switched off. */
const MAX_EXHAUSTED = 10;

/** A change of an account's webhook holds for what other gateways accept after so long. */
const KNOWN_MS = 1_000;

/** Longer than the schedule of the attempts. */
const SCHEDULE_MS = 36 * 3_600_000;

export interface SettingsChange {
  readonly url: string;
  readonly enabled: boolean;
  /** A new secret for what is not delivered yet, too; the old one signs for `DEFAULT_OVERLAP_MS`. One is made also when there is none. */
  readonly rotateSecret: boolean;
  /** Unix milliseconds. */
  readonly at: number;
}

/** Where webhooks go and what signs them. */
export interface Webhooks extends WebhookSecrets, Receivers {
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
  settings(client: string): Promise<WebhookSettings>;
  /** Returns the secret when it was made now: it is shown only then. Switching on resets the count of failures and lifts a 410. */
  change(client: string, change: SettingsChange): Promise<{ readonly secret: string | null }>;
  /** Removes the URL. The secret stays: it signs what goes to URLs of requests. */
  remove(client: string): Promise<void>;
}

/** What answers say about receivers. */
interface Receivers {
  /** An event arrived at the account's URL: its count starts anew, and a 410 is lifted. */
  recordSuccess(client: string, url: string): Promise<void>;
  /** No attempt of an event arrived. True when that has switched the account's URL off. */
  recordExhausted(client: string, url: string, at: number): Promise<boolean>;
  /** The URL answered 410: nothing more goes there for the retention. True when it is the account's and was switched off by that. */
  recordGone(client: string, url: string): Promise<boolean>;
  liftGone(client: string, url: string): Promise<void>;
}

interface Options {
  readonly redis: Redis;
  readonly keys: Keys;
  /** How long request records live; secrets of requests outlive them by as much, for what ends late. */
  readonly retentionMs: number;
}

export function openWebhooks(options: Options): Webhooks {
  const { redis, keys, retentionMs } = options;
  const known = new ShortCache<string, WebhookTarget | null>({ ttlMs: KNOWN_MS, max: 10_000 });
  const settings = (client: string): Promise<WebhookSettings> => readSettings(options, client);
  const accountTarget = async (client: string): Promise<WebhookTarget | null> => {
    const cached = known.get(client);
    if (cached !== undefined) return cached;
    const { url, enabled } = await settings(client);
    const target = url !== null && enabled ? { url, secretRef: accountRef(client) } : null;
    known.set(client, target);
    return target;
  };
  return {
    ...openWebhookSecrets(options),
    ...openReceivers(options, (client) => known.delete(client)),
    settings,
    freezeTarget: async ({ client, requestId, url, secret }) => {
      if (url === null) return accountTarget(client);
      if (secret === null) return { url, secretRef: null };
      const ref = requestRef(requestId);
      await onRedis(`storing the webhook secret of request ${requestId}`, () =>
        redis.set(keys.hookSecret(ref), secret, "PX", 2 * retentionMs + SCHEDULE_MS),
      );
      return { url, secretRef: ref };
    },
    change: async (client, { url, enabled, rotateSecret, at }) => {
      const secret = newSecret();
      const args = [url, enabled ? "1" : "0", at, secret, rotateSecret ? "1" : "0", DEFAULT_OVERLAP_MS];
      const made = await onRedis(`changing the webhook of client ${client}`, () =>
        CHANGE.run(redis, [keys.hook(client), ...secretKeys(keys, client), goneKey(keys, client, url)], args),
      );
      known.delete(client);
      return { secret: made === 1 ? secret : null };
    },
    remove: async (client) => {
      await onRedis(`removing the webhook of client ${client}`, () => redis.hdel(keys.hook(client), ...URL_FIELDS));
      known.delete(client);
    },
  };
}

function openReceivers({ redis, keys, retentionMs }: Options, onSwitchedOff: (client: string) => void): Receivers {
  const switchedOff = (client: string, answer: unknown): boolean => {
    if (answer === 1) onSwitchedOff(client);
    return answer === 1;
  };
  return {
    recordSuccess: async (client, url) => {
      await onRedis(`counting a delivery of client ${client}`, () =>
        SUCCESS.run(redis, [keys.hook(client), goneKey(keys, client, url)], [url]),
      );
    },
    recordExhausted: async (client, url, at) => {
      const args = [url, at, MAX_EXHAUSTED];
      return switchedOff(
        client,
        await onRedis(`counting a failed delivery of client ${client}`, () => EXHAUSTED.run(redis, [keys.hook(client)], args)),
      );
    },
    recordGone: async (client, url) => {
      const account = (await readSettings({ redis, keys }, client)).url;
      const isAccounts = account !== null && hashOfUrl(account) === hashOfUrl(url);
      return switchedOff(
        client,
        await onRedis(`noting a receiver of client ${client} that is gone`, () =>
          GONE.run(redis, [keys.hook(client), goneKey(keys, client, url)], [isAccounts ? account : "", retentionMs]),
        ),
      );
    },
    liftGone: async (client, url) => {
      await onRedis(`noting a receiver of client ${client} that is back`, () => redis.del(goneKey(keys, client, url)));
    },
  };
}

/** @throws AppError RECORD_UNREADABLE */
async function readSettings({ redis, keys }: Pick<Options, "redis" | "keys">, client: string): Promise<WebhookSettings> {
  const found = await onRedis(`reading the webhook of client ${client}`, () =>
    SETTINGS.run(redis, [keys.hook(client), ...secretKeys(keys, client)], []),
  );
  const [pairs, hasSecret, previousUntil] = found as readonly [readonly string[], number, string];
  return readWebhookSettings({ hash: hashFromPairs(pairs), hasSecret: hasSecret === 1, previousUntil });
}
