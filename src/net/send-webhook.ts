import { webhookHeaders, type WebhookEventName } from "../protocol/webhook.ts";
import { FetchFailure } from "./fetch-failure.ts";
import type { GuardedFetch } from "./open-guarded-fetch.ts";

/** Contract, section 3. */
const TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 4_096;

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
  readonly error: string | null;
  /** The first 4 KiB of the answer's body. */
  readonly answer: string | null;
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
    const { status, body: answer } = await fetch.send({ url, headers, body, ...limits, ...(signal !== undefined && { signal }) });
    return { at, durationMs: took(), status, error: null, answer: answer.toString(), refusedAddress: null };
  } catch (thrown) {
    if (!(thrown instanceof FetchFailure)) throw thrown;
    return { at, durationMs: took(), status: null, error: thrown.message, answer: null, refusedAddress: thrown.address };
  }
}
