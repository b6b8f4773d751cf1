import { createHash } from "node:crypto";
import type { Keys } from "../protocol/keys.ts";

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

export const accountRef = (client: string): string => `client:${client}`;
export const previousRef = (client: string): string => `previous:${client}`;
export const requestRef = (requestId: string): string => `request:${requestId}`;

/** Whether a target is its account's webhook, not a URL of the request's own. */
export function isAccountTarget({ client, secretRef }: Pick<DeliveryTarget, "client" | "secretRef">): boolean {
  return secretRef === accountRef(client);
}

/** Keys of the account's secret and of the one that it has replaced. */
export function secretKeys(keys: Keys, client: string): readonly [current: string, previous: string] {
  return [keys.hookSecret(accountRef(client)), keys.hookSecret(previousRef(client))];
}

export function goneKey(keys: Keys, client: string, url: string): string {
  return keys.hookGone(client, hashOfUrl(url));
}

/** The same for all spellings of a URL, and without its fragment, which no receiver sees. */
export function hashOfUrl(url: string): string {
  const parsed = URL.parse(url);
  if (parsed !== null) parsed.hash = "";
  return createHash("sha256")
    .update(parsed?.href ?? url)
    .digest("base64url")
    .slice(0, 22);
}
