import { WEBHOOK_WAITS_MS } from "../../core/webhook-schedule.ts";
import type { GuideFacts } from "./guides.ts";
import { code, codeBox, escapeHtml, tableBox } from "./html.ts";

const EVENTS: readonly (readonly [string, string, string])[] = [
  ["job.processing", "A worker has begun; once a request.", "JobProcessingEvent"],
  ["job.completed", "The request is done.", "JobCompletedEvent"],
  ["job.failed", "The request has failed or was cancelled.", "JobFailedEvent"],
  ["webhook.test", "You asked for a test. It has the fields of job.completed.", "WebhookTestEvent"],
];

/** Events, headers, verification, retries, secrets. */
export function webhooksGuide({ headerPrefix, schemas, resolve, publicUrl }: GuideFacts): string {
  const fieldsOf = (name: string): string => {
    const { data = {} } = (resolve(schemas[name] ?? {})["properties"] ?? {}) as Readonly<Record<string, { readonly properties?: object }>>;
    return Object.keys(data.properties ?? {})
      .map((field) => code(field))
      .join(", ");
  };
  const prefix = escapeHtml(headerPrefix);
  return `<p>Events are sent by POST to the account's URL (<a href="#changeWebhookSettings">settings</a>) or, where a request brings one, to its <code>webhook_url</code>. The URL is https and has a public address.</p>
${tableBox(
  "Events",
  ["event", "when", "fields of data"],
  EVENTS.map(([event, when, schema]) => [code(event), escapeHtml(when), fieldsOf(schema)]),
)}
${codeBox("A webhook", BODY)}
<p>The body and <code>delivery_id</code> are the same for every attempt of an event: keep the ids that you have seen, and a repetition does no harm.</p>
<h3 id="webhook-headers">Headers</h3>
${tableBox("Headers of a webhook", ["header", "value"], headerRows(headerPrefix))}
<h3 id="webhook-secrets">Secrets</h3>
<p>The account's secret signs every event, those of requests with a <code>webhook_url</code> of their own included; a <code>webhook_secret</code> of a request goes first. <a href="#newWebhookSecret">Make one</a> and keep it: it is shown once. A new one needs <code>"replace": true</code>; the old one then signs as well for <code>overlap_hours</code> (24), so that receivers can change over without losing an event. During that time <code>${prefix}-Signature</code> is made with one secret, and <code>webhook-signature</code> holds a signature of each. Without any secret the signature headers are empty.</p>
<h3 id="webhook-verify">Verify a signature</h3>
<p>Compute the HMAC-SHA256 of <code>&lt;timestamp&gt;.&lt;raw body&gt;</code> with the secret as it is written, compare in constant time, and refuse a timestamp that is more than 300 seconds off.</p>
${codeBox("Verification in Python", python(headerPrefix))}
${codeBox("Verification in JavaScript", javascript(headerPrefix))}
<p>Or use a library of <a href="https://www.standardwebhooks.com">Standard Webhooks</a> with the <code>webhook-...</code> headers and the same secret:</p>
${codeBox(
  "Verification with Standard Webhooks",
  `import { Webhook } from "standardwebhooks";
new Webhook(secret).verify(rawBody, headers); // throws for a wrong signature`,
)}
<h3 id="webhook-retries">Answers and retries</h3>
<p>Answer with any 2xx within 10 seconds; do the work afterwards. Anything else, a redirect too, is repeated: ${WEBHOOK_WAITS_MS.length} attempts with waits of ${WEBHOOK_WAITS_MS.slice(1).map(span).join(", ")} between them. <code>Retry-After</code> of a 429 or 503 is honoured within that schedule. 410 ends it at once, and nothing more is sent to that URL. Ten events in a row that could not be delivered switch the account's URL off; the <a href="#webhookSettings">settings</a> say so.</p>
<p><a href="#listDeliveries">Deliveries</a> of a request show each attempt and what was answered; <a href="#redeliver">redeliver</a> sends one again. <a href="#testWebhook">Test</a> a URL before you rely on it:</p>
${codeBox("A test with curl", `curl -s -X POST ${publicUrl}/api/v1/client/settings/webhook/test -H "Authorization: Bearer $KEY"`)}`;
}

const BODY = `POST /your/hook HTTP/1.1
Content-Type: application/json

{"event": "job.completed", "delivery_id": "0e6a7b1c-6f0e-8b53-9d3a-2b7f3b1c9a55", "timestamp": "2026-01-31T12:00:00.000Z",
 "data": {"job_request_id": "7c3b4f0e-5d2a-4c1b-9a77-1f0f5f3c9d10", "status": "done", "previous_status": "processing",
          "job_type": "txt2img", "completed_at": "2026-01-31T12:00:00.000Z", "result_url": "https://...", "processing_time_ms": 4210}}`;

function headerRows(prefix: string): readonly (readonly string[])[] {
  return [
    [code(`${prefix}-Signature`), "<code>sha256=</code> and the HMAC in hex"],
    [code(`${prefix}-Timestamp`), "Unix seconds of this attempt"],
    [code(`${prefix}-Event`), "the event's name"],
    [code(`${prefix}-Delivery-Id`), "<code>delivery_id</code> of the body"],
    [code("webhook-id"), "the same"],
    [code("webhook-timestamp"), "Unix seconds of this attempt"],
    [
      code("webhook-signature"),
      "<code>v1,</code> and the HMAC of <code>&lt;id&gt;.&lt;timestamp&gt;.&lt;raw body&gt;</code> in base64; several have a space between them",
    ],
  ];
}

function python(prefix: string): string {
  return `import hashlib, hmac, time

def is_ours(secret: str, headers, raw_body: bytes) -> bool:
    timestamp = headers["${prefix}-Timestamp"]
    if abs(time.time() - int(timestamp)) > 300:
        return False
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + raw_body, hashlib.sha256)
    return hmac.compare_digest("sha256=" + signed.hexdigest(), headers["${prefix}-Signature"])`;
}

function javascript(prefix: string): string {
  return `import { createHmac, timingSafeEqual } from "node:crypto";

export function isOurs(secret, headers, rawBody) {
  const timestamp = headers["${prefix.toLowerCase()}-timestamp"];
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > 300) return false;
  const signed = createHmac("sha256", secret).update(timestamp + ".").update(rawBody).digest("hex");
  const expected = Buffer.from("sha256=" + signed);
  const given = Buffer.from(headers["${prefix.toLowerCase()}-signature"] ?? "");
  return given.length === expected.length && timingSafeEqual(given, expected);
}`;
}

function span(ms: number): string {
  return ms < 3_600_000 ? `${ms / 60_000} min` : `${ms / 3_600_000} h`;
}
