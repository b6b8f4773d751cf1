import { randomBytes } from "node:crypto";
import type { Redis } from "ioredis";
import { ShortCache } from "../lib/short-cache.ts";
import type { Keys } from "../protocol/keys.ts";
import type { SigningSecret } from "../protocol/webhook.ts";
import { onRedis } from "./redis-error.ts";
import { SECRET } from "./webhook-scripts.ts";
import { goneKey, isAccountTarget, previousRef, secretKeys, type DeliveryTarget } from "./webhook-targets.ts";

/** How long a replaced secret goes on signing, unless its owner says otherwise. */
export const DEFAULT_OVERLAP_MS: number = 24 * 3_600_000;

/** How long a courier remembers which of two secrets a receiver takes; forgetting costs one refused request. */
const TAKEN_MS = 24 * 3_600_000;

/** What an attempt has to know, as things are now. */
export interface Standing {
  /** Why nothing can or should be sent there any more; null: send. */
  readonly closed: string | null;
  /** Unix milliseconds of an answer 410 of this URL, since when nothing is sent there unasked. */
  readonly goneAt: number | null;
  /** In the order to try them; none: unsigned. */
  readonly secrets: readonly SigningSecret[];
}

/** What signs webhooks. Secrets are stored by name, so that no job or record holds one. */
export interface WebhookSecrets {
  standing(target: DeliveryTarget): Promise<Standing>;
  /** The account's secret, and the one it has replaced while that still signs. The replaced one first: its receivers are not changed yet. */
  accountSecrets(client: string, url: string): Promise<readonly SigningSecret[]>;
  /** The receiver has taken this secret's signature: it is tried first from now on. */
  noteTaken(receiver: { readonly client: string; readonly url: string }, taken: SigningSecret): void;
  /** A new secret for the account; null when there is one and it may not be replaced. The old one signs for `overlapMs` more. */
  createSecret(client: string, options: { readonly replace: boolean; readonly overlapMs: number }): Promise<string | null>;
  endOverlap(client: string): Promise<void>;
}

export function openWebhookSecrets({ redis, keys }: { readonly redis: Redis; readonly keys: Keys }): WebhookSecrets {
  const taken = new ShortCache<string, string>({ ttlMs: TAKEN_MS, max: 10_000 });
  /** In the order to try them: while a secret is replaced, first the one that the receiver took last. */
  const inOrder = (client: string, url: string, [current, previous]: readonly (string | null | undefined)[]): readonly SigningSecret[] => {
    if (current === null || current === undefined) return [];
    const account: SigningSecret = { signer: "account", secret: current };
    if (previous === null || previous === undefined) return [account];
    const replaced: SigningSecret = { signer: "account_previous", secret: previous };
    return taken.get(receiverOf(client, url)) === current ? [account, replaced] : [replaced, account];
  };
  return {
    standing: async (target) => {
      const { client, url, secretRef } = target;
      const isAccount = isAccountTarget(target);
      const own = secretRef !== null && !isAccount;
      const names = own ? [keys.hookSecret(secretRef)] : secretKeys(keys, client);
      const [[gone, ...secrets], hasUrl] = await onRedis(`reading what signs webhooks of client ${client}`, () =>
        Promise.all([redis.mget(goneKey(keys, client, url), ...names), isAccount ? redis.hexists(keys.hook(client), "url") : 1]),
      );
      const goneAt = gone === null || gone === undefined ? null : Number(gone);
      if (own) return { ...ownSecret(secrets[0]), goneAt };
      return { closed: hasUrl === 1 ? null : "the account's webhook was removed", goneAt, secrets: inOrder(client, url, secrets) };
    },
    accountSecrets: async (client, url) =>
      inOrder(client, url, await onRedis(`reading the webhook secrets of client ${client}`, () => redis.mget(...secretKeys(keys, client)))),
    noteTaken: ({ client, url }, { secret }) => taken.set(receiverOf(client, url), secret),
    createSecret: async (client, { replace, overlapMs }) => {
      const secret = newSecret();
      const made = await onRedis(`making the webhook secret of client ${client}`, () =>
        SECRET.run(redis, [keys.hook(client), ...secretKeys(keys, client)], [secret, replace ? "1" : "0", overlapMs]),
      );
      return made === 1 ? secret : null;
    },
    endOverlap: async (client) => {
      await onRedis(`ending the replaced webhook secret of client ${client}`, () => redis.del(keys.hookSecret(previousRef(client))));
    },
  };
}

/** In the form of Standard Webhooks: 32 random bytes. */
export function newSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

/** Its receiver knows this secret and no other: without it nobody could tell the delivery from a forged one. */
function ownSecret(secret: string | null | undefined): Pick<Standing, "closed" | "secrets"> {
  return secret === null || secret === undefined
    ? { closed: "the secret that the request brought is not stored any more", secrets: [] }
    : { closed: null, secrets: [{ signer: "request", secret }] };
}

const receiverOf = (client: string, url: string): string => `${client}\n${url}`;
