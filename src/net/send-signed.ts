import type { SigningSecret } from "../protocol/webhook.ts";
import type { GuardedFetch } from "./open-guarded-fetch.ts";
import { sendWebhook, type PostOutcome, type WebhookPost } from "./send-webhook.ts";

/** What receivers answer to a signature that they do not take. */
const REFUSED: ReadonlySet<number | null> = new Set([400, 401, 403]);

export interface SignedOutcome extends PostOutcome {
  /** The secret of the contract's signature header; null: unsigned. */
  readonly signedWith: SigningSecret | null;
}

/**
 * One attempt. While two secrets sign, its receiver may know either, and the contract's signature header holds one signature: a receiver
 * that refuses the first secret's gets the same bytes at once with the second's. The outcome is that of the last request.
 * @throws `signal.reason`
 */
export async function sendSigned(
  fetch: GuardedFetch,
  post: Omit<WebhookPost, "secrets">,
  secrets: readonly SigningSecret[],
): Promise<SignedOutcome> {
  const send = async (first: SigningSecret): Promise<SignedOutcome> => {
    const others = secrets.filter((other) => other !== first);
    const outcome = await sendWebhook(fetch, { ...post, secrets: [first, ...others].map(({ secret }) => secret) });
    return { ...outcome, signedWith: first };
  };
  const [first, second] = secrets;
  if (first === undefined) return { ...(await sendWebhook(fetch, { ...post, secrets: [] })), signedWith: null };
  const outcome = await send(first);
  if (second === undefined || !REFUSED.has(outcome.status)) return outcome;
  const last = await send(second);
  return { ...last, at: outcome.at, durationMs: outcome.durationMs + last.durationMs };
}
