import { createHash, createHmac } from "node:crypto";
import type { ApiErrorCode, ErrorCode } from "./error.ts";
import type { Status } from "./request.ts";

export const WEBHOOK_EVENTS = ["job.processing", "job.completed", "job.failed", "webhook.test"] as const;
export type WebhookEventName = (typeof WEBHOOK_EVENTS)[number];

interface JobFacts {
  readonly job_request_id: string;
  readonly status: Status;
  readonly previous_status: Status;
  /** The inference type. */
  readonly job_type: string;
}

export interface ProcessingData extends JobFacts {
  /** ISO 8601, as all times here. */
  readonly started_at: string;
}

export interface CompletedData extends JobFacts {
  readonly completed_at: string;
  readonly result_url: string | null;
  readonly processing_time_ms: number | null;
}

export interface FailedData extends JobFacts {
  readonly failed_at: string;
  readonly error_code: ApiErrorCode;
  readonly error_message: string;
  readonly error_reason: ErrorCode;
  /** The field of the request that is to blame. */
  readonly error_field: string | null;
  readonly retryable: boolean;
}

/** The body of a webhook, the same for all attempts. `timestamp` is the event's, ISO 8601. */
export interface WebhookBody {
  readonly event: WebhookEventName;
  readonly delivery_id: string;
  readonly timestamp: string;
  readonly data: ProcessingData | CompletedData | FailedData;
}

export const WEBHOOK_USER_AGENT = "DryAPI-Webhook/1.0";
export const DEFAULT_HEADER_PREFIX = "X-DryAPI";

/** Whose secret signed: the request's own, the account's, or the one that the account's has replaced. */
export const SIGNERS = ["request", "account", "account_previous"] as const;
export type Signer = (typeof SIGNERS)[number];

export interface SigningSecret {
  readonly signer: Signer;
  readonly secret: string;
}

export interface SignOptions {
  /** The first signs `<prefix>-Signature`, all sign `webhook-signature`. None: both headers are empty. */
  readonly secrets: readonly string[];
  readonly event: WebhookEventName;
  readonly deliveryId: string;
  /** Unix seconds of this attempt: receivers refuse what is more than 300 s off. */
  readonly timestamp: number;
  /** Exactly as sent. */
  readonly body: string;
  readonly headerPrefix?: string;
}

/**
 * The headers of one attempt. Two signatures of the same: `<prefix>-Signature` is HMAC-SHA256 with the secret as it is written, and the
 * `webhook-*` trio follows Standard Webhooks 1.0.0 (github.com/standard-webhooks/standard-webhooks). Only the latter can hold several
 * signatures: receivers compare the former as a whole.
 */
export function webhookHeaders(options: SignOptions): Readonly<Record<string, string>> {
  const { secrets, event, deliveryId, timestamp, body, headerPrefix = DEFAULT_HEADER_PREFIX } = options;
  const time = String(timestamp);
  const [first] = secrets;
  const standard = secrets.map((secret) => `v1,${hmac(standardKey(secret), `${deliveryId}.${time}.${body}`).toString("base64")}`);
  return {
    [`${headerPrefix}-Signature`]: first === undefined ? "" : `sha256=${hmac(first, `${time}.${body}`).toString("hex")}`,
    [`${headerPrefix}-Timestamp`]: time,
    [`${headerPrefix}-Event`]: event,
    [`${headerPrefix}-Delivery-Id`]: deliveryId,
    "webhook-id": deliveryId,
    "webhook-timestamp": time,
    "webhook-signature": standard.join(" "),
    "Content-Type": "application/json",
    "User-Agent": WEBHOOK_USER_AGENT,
  };
}

/** `whsec_<base64>` stands for the bytes behind it, as off-the-shelf verifiers read it; any other text for its own bytes. */
function standardKey(secret: string): Buffer {
  const base64 = /^whsec_((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)$/.exec(secret)?.[1] ?? "";
  return base64 === "" ? Buffer.from(secret) : Buffer.from(base64, "base64");
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

/**
 * The id of the delivery of one event of a request: the same whoever computes it and whenever, so that no crash can give an event a second
 * one. In the form of a UUID (version 8: of one's own making, RFC 9562).
 */
export function deliveryIdOf(requestId: string, event: "processing" | "end"): string {
  const hash = createHash("sha256").update(`dryapi delivery\n${requestId}\n${event}`).digest("hex");
  const variant = (8 + (Number.parseInt(hash.charAt(16), 16) % 4)).toString(16);
  return [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`, variant + hash.slice(17, 20), hash.slice(20, 32)].join("-");
}
