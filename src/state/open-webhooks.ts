import { createHash, randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import { ShortCache } from "../lib/short-cache.ts";
import type { Keys } from "../protocol/keys.ts";
import type { SigningSecret } from "../protocol/webhook.ts";
import { onRedis } from "./redis-error.ts";
import { hashFromPairs } from "./redis-script.ts";
import { CHANGE, EXHAUSTED, GONE, SECRET, SETTINGS, SUCCESS } from "./webhook-scripts.ts";
import { readWebhookSettings, URL_FIELDS, type WebhookSettings } from "./webhook-settings.ts";

/** Events in a row of which no attempt arrived, after which an account's URL is switched off. */
export const MAX_EXHAUSTED = 10;

/** How long a replaced secret goes on signing, unless its owner says otherwise. */
export const DEFAULT_OVERLAP_MS: number = 24 * 3_600_000;

/** A change of an account's webhook holds for what other gateways accept after so long. */
const KNOWN_MS = 1_000;

/** How long a courier remembers which of two secrets a receiver takes; forgetting costs one refused request. */
const TAKEN_MS = 24 * 3_600_000;

/** Longer than the schedule of the attempts. */
const SCHEDULE_MS = 36 * 3_600_000;

export interface WebhookTarget {
  readonly url: string;
  /**
   * What signs, by name: `client:<id>` for the account's webhook, `request:<id>` for the secret that a request brought. Null: the request's own
   * URL without a secret of its own; the account's secret signs, if there is one by then.
   */
  readonly secretRef: string | null;
}

/** A delivery's target, as the log keeps it. */
export interface DeliveryTarget extends WebhookTarget {
  readonly client: string;
}

/** What an attempt has to know, as things are now. */
export interface Standing {
  /** Why its account or its owner wants nothing sent there; null: send. */
  readonly closed: string | null;
  /** Unix milliseconds of an answer 410 of this URL, since when nothing is sent there unasked. */
  readonly goneAt: number | null;
  /** In the order to try them; none: unsigned. */
  readonly secrets: readonly SigningSecret[];
}

export interface SettingsChange {
  readonly url: string;
  readonly enabled: boolean;
  /** A new secret for what is not delivered yet, too; the old one signs for `DEFAULT_OVERLAP_MS`. One is made also when there is none. */
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
  standing(target: DeliveryTarget): Promise<Standing>;
  /** The account's secret, and the one it has replaced while that still signs. The replaced one first: its receivers are not changed yet. */
  accountSecrets(client: string, url: string): Promise<readonly SigningSecret[]>;
  /** The receiver has taken this secret's signature: it is tried first from now on. */
  noteTaken(target: { readonly client: string; readonly url: string }, taken: SigningSecret): void;
  settings(client: string): Promise<WebhookSettings>;
  /** Returns the secret when it was made now: it is shown only then. Switching on resets the count of failures and lifts a 410. */
  change(client: string, change: SettingsChange): Promise<{ readonly secret: string | null }>;
  /** A new secret for the account; null when there is one and it may not be replaced. The old one signs for `overlapMs` more. */
  createSecret(client: string, options: { readonly replace: boolean; readonly overlapMs: number }): Promise<string | null>;
  endOverlap(client: string): Promise<void>;
  /** Removes the URL. The secret stays: it signs what goes to URLs of requests. */
  remove(client: string): Promise<void>;
  /** An event arrived at the account's URL: its count starts anew, and a 410 is lifted. */
  recordSuccess(client: string, url: string): Promise<void>;
  /** No attempt of an event arrived. True when that has switched the account's URL off. */
  recordExhausted(client: string, url: string, at: number): Promise<boolean>;
  /** The URL answered 410: nothing more goes there for the retention. True when it is the account's and was switched off by that. */
  recordGone(client: string, url: string): Promise<boolean>;
  liftGone(client: string, url: string): Promise<void>;
}

const accountRef = (client: string): string => `client:${client}`;
const previousRef = (client: string): string => `previous:${client}`;

/** Whether a target is its account's webhook, not a URL of the request's own. */
export function isAccountTarget({ client, secretRef }: Pick<DeliveryTarget, "client" | "secretRef">): boolean {
  return secretRef === accountRef(client);
}

/** `retentionMs`: how long request records live; secrets of requests outlive them by as much, for what ends late. */
export function openWebhooks(options: { readonly redis: Redis; readonly keys: Keys; readonly retentionMs: number }): Webhooks {
  const { redis, keys, retentionMs } = options;
  const known = new ShortCache<string, WebhookTarget | null>({ ttlMs: KNOWN_MS, max: 10_000 });
  const taken = new ShortCache<string, string>({ ttlMs: TAKEN_MS, max: 10_000 });
  const accountTarget = async (client: string): Promise<WebhookTarget | null> => {
    const cached = known.get(client);
    if (cached !== undefined) return cached;
    const { url, enabled } = await settings(client);
    const target = url !== null && enabled ? { url, secretRef: accountRef(client) } : null;
    known.set(client, target);
    return target;
  };
  const secretKeys = (client: string): readonly [string, string] => [
    keys.hookSecret(accountRef(client)),
    keys.hookSecret(previousRef(client)),
  ];
  const goneKey = (client: string, url: string): string => keys.hookGone(client, hashOf(url));
  const settings = async (client: string): Promise<WebhookSettings> => {
    const found = await onRedis(`reading the webhook of client ${client}`, () =>
      SETTINGS.run(redis, [keys.hook(client), ...secretKeys(client)], []),
    );
    const [pairs, hasSecret, previousUntil] = found as readonly [readonly string[], number, string];
    return readWebhookSettings({ hash: hashFromPairs(pairs), hasSecret: hasSecret === 1, previousUntil });
  };
  /** In the order to try them: while a secret is replaced, first the one that the receiver took last. */
  const inOrder = (client: string, url: string, [current, previous]: readonly (string | null | undefined)[]): readonly SigningSecret[] => {
    if (current === null || current === undefined) return [];
    const account: SigningSecret = { signer: "account", secret: current };
    if (previous === null || previous === undefined) return [account];
    const replaced: SigningSecret = { signer: "account_previous", secret: previous };
    return taken.get(receiverOf(client, url)) === current ? [account, replaced] : [replaced, account];
  };
  return {
    settings,
    freezeTarget: async ({ client, requestId, url, secret }) => {
      if (url === null) return accountTarget(client);
      if (secret === null) return { url, secretRef: null };
      const ref = `request:${requestId}`;
      await onRedis(`storing the webhook secret of request ${requestId}`, () =>
        redis.set(keys.hookSecret(ref), secret, "PX", 2 * retentionMs + SCHEDULE_MS),
      );
      return { url, secretRef: ref };
    },
    standing: async (target) => {
      const { client, url, secretRef } = target;
      const isAccount = isAccountTarget(target);
      const own = secretRef !== null && !isAccount;
      const names = own ? [keys.hookSecret(secretRef)] : secretKeys(client);
      const [[gone, ...secrets], hasUrl] = await onRedis(`reading what signs webhooks of client ${client}`, () =>
        Promise.all([redis.mget(goneKey(client, url), ...names), isAccount ? redis.hexists(keys.hook(client), "url") : 1]),
      );
      const goneAt = gone === null || gone === undefined ? null : Number(gone);
      if (own) {
        const [secret] = secrets;
        return secret === null || secret === undefined
          ? { closed: "the secret that the request brought is not stored any more", goneAt, secrets: [] }
          : { closed: null, goneAt, secrets: [{ signer: "request", secret }] };
      }
      return { closed: hasUrl === 1 ? null : "the account's webhook was removed", goneAt, secrets: inOrder(client, url, secrets) };
    },
    accountSecrets: async (client, url) =>
      inOrder(client, url, await onRedis(`reading the webhook secrets of client ${client}`, () => redis.mget(...secretKeys(client)))),
    noteTaken: ({ client, url }, { secret }) => taken.set(receiverOf(client, url), secret),
    change: async (client, { url, enabled, rotateSecret, at }) => {
      const secret = newSecret();
      const args = [url, enabled ? "1" : "0", at, secret, rotateSecret ? "1" : "0", DEFAULT_OVERLAP_MS];
      const made = await onRedis(`changing the webhook of client ${client}`, () =>
        CHANGE.run(redis, [keys.hook(client), ...secretKeys(client), goneKey(client, url)], args),
      );
      known.delete(client);
      return { secret: made === 1 ? secret : null };
    },
    createSecret: async (client, { replace, overlapMs }) => {
      const secret = newSecret();
      const made = await onRedis(`making the webhook secret of client ${client}`, () =>
        SECRET.run(redis, [keys.hook(client), ...secretKeys(client)], [secret, replace ? "1" : "0", overlapMs]),
      );
      return made === 1 ? secret : null;
    },
    endOverlap: async (client) => {
      await onRedis(`ending the replaced webhook secret of client ${client}`, () => redis.del(keys.hookSecret(previousRef(client))));
    },
    remove: async (client) => {
      await onRedis(`removing the webhook of client ${client}`, () => redis.hdel(keys.hook(client), ...URL_FIELDS));
      known.delete(client);
    },
    recordSuccess: async (client, url) => {
      await onRedis(`counting a delivery of client ${client}`, () => SUCCESS.run(redis, [keys.hook(client), goneKey(client, url)], [url]));
    },
    recordExhausted: async (client, url, at) => {
      const switchedOff = await onRedis(`counting a failed delivery of client ${client}`, () =>
        EXHAUSTED.run(redis, [keys.hook(client)], [url, at, MAX_EXHAUSTED]),
      );
      if (switchedOff === 1) known.delete(client);
      return switchedOff === 1;
    },
    recordGone: async (client, url) => {
      const account = (await settings(client)).url;
      const same = account !== null && hashOf(account) === hashOf(url);
      const switchedOff = await onRedis(`noting a receiver of client ${client} that is gone`, () =>
        GONE.run(redis, [keys.hook(client), goneKey(client, url)], [same ? account : "", retentionMs]),
      );
      if (switchedOff === 1) known.delete(client);
      return switchedOff === 1;
    },
    liftGone: async (client, url) => {
      await onRedis(`noting a receiver of client ${client} that is back`, () => redis.del(goneKey(client, url)));
    },
  };
}

/** In the form of Standard Webhooks: 32 random bytes. */
function newSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

const receiverOf = (client: string, url: string): string => `${client}\n${url}`;

/** The same for all spellings of a URL, and without its fragment, which no receiver sees. */
function hashOf(url: string): string {
  const parsed = URL.parse(url);
  if (parsed !== null) parsed.hash = "";
  return createHash("sha256")
    .update(parsed?.href ?? url)
    .digest("base64url")
    .slice(0, 22);
}
