import { webhookHeaders, type WebhookEventName } from "../protocol/webhook.ts";
import { FetchFailure } from "./fetch-failure.ts";
import type { GuardedFetch } from "./open-guarded-fetch.ts";
import type { Answer } from "./send-post.ts";

/** Contract, section 3. */
const TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 4_096;
const MAX_LOCATION_CHARS = 200;

export interface WebhookPost {
  readonly url: string;
  /** As in `SignOptions`. */
  readonly secrets: readonly string[];
  readonly event: WebhookEventName;
  readonly deliveryId: string;
  readonly body: string;
  readonly headerPrefix: string;
  readonly signal?: AbortSignal;
}

export interface PostOutcome {
  /** Unix milliseconds of the start. */
  readonly at: number;
  readonly durationMs: number;
  /** Null when there was no answer. */
  readonly status: number | null;
  /** Why there was no answer, or what is wrong with its status. */
  readonly error: string | null;
  /** The first 4 KiB of the answer's body. */
  readonly answer: string | null;
  /** What the answer's `Retry-After` asks for. */
  readonly retryAfterMs: number | null;
  /** The address that was refused, for our own logs. */
  readonly refusedAddress: string | null;
}

/** One attempt, signed now. Failures of the network are outcomes. @throws `signal.reason` */
export async function sendWebhook(fetch: GuardedFetch, post: WebhookPost): Promise<PostOutcome> {
  const { url, body, signal } = post;
  const at = Date.now();
  const started = performance.now();
  const took = (): number => Math.round(performance.now() - started);
  const headers = webhookHeaders({ ...post, timestamp: Math.floor(at / 1_000) });
  try {
    const limits = { timeoutMs: TIMEOUT_MS, maxAnswerBytes: MAX_ANSWER_BYTES };
    const answer = await fetch.send({ url, headers, body, ...limits, ...(signal !== undefined && { signal }) });
    const { status, retryAfterMs } = answer;
    return { at, durationMs: took(), status, error: errorOf(answer), answer: answer.body.toString(), retryAfterMs, refusedAddress: null };
  } catch (thrown) {
    if (!(thrown instanceof FetchFailure)) throw thrown;
    const { message: error, address: refusedAddress } = thrown;
    return { at, durationMs: took(), status: null, error, answer: null, retryAfterMs: null, refusedAddress };
  }
}

/** In words where the status alone leaves a receiver's owner guessing. */
function errorOf({ status, location }: Answer): string | null {
  if (status === 101) return "the receiver answered 101 and wants another protocol; expected a status from 200 to 299";
  if (status < 300 || status >= 400) return null;
  const where = location === null ? "" : ` (to ${location.slice(0, MAX_LOCATION_CHARS)})`;
  return `the receiver answered ${status}, a redirect${where}; webhooks follow none: set the URL that answers itself`;
}
