import type { WebhookEventName } from "../../protocol/webhook.ts";
import { json, nullable, object, ref, time, uuid, type Schema } from "./schema.ts";

const EVENTS: Readonly<Record<WebhookEventName, { readonly schema: string; readonly summary: string }>> = {
  "job.processing": { schema: "JobProcessingEvent", summary: "A worker has begun: once a request" },
  "job.completed": { schema: "JobCompletedEvent", summary: "A request is done" },
  "job.failed": { schema: "JobFailedEvent", summary: "A request has failed or was cancelled" },
  "webhook.test": { schema: "WebhookTestEvent", summary: "A test that was asked for" },
};

const facts = (status: string, previous: readonly string[]): Readonly<Record<string, Schema>> => ({
  job_request_id: uuid,
  status: { type: "string", enum: [status] },
  previous_status: { type: "string", enum: previous },
  job_type: ref("InferenceType"),
});
const ms = nullable("integer", { minimum: 0 });
const completed: Readonly<Record<string, Schema>> = {
  ...facts("done", ["processing"]),
  completed_at: time,
  result_url: nullable("string", { format: "uri", description: "Valid until the retention ends; no key is needed to follow it." }),
  processing_time_ms: ms,
};

function event(name: WebhookEventName, body: Schema): Schema {
  return object({
    event: { type: "string", enum: [name] },
    delivery_id: { ...uuid, description: "The same for all attempts: by it a receiver knows a repetition." },
    timestamp: { ...time, description: "Of the event; the header has that of the attempt." },
    data: body,
  });
}

export const EVENT_SCHEMAS: Readonly<Record<string, Schema>> = {
  JobProcessingEvent: event("job.processing", object({ ...facts("processing", ["pending"]), started_at: time })),
  JobCompletedEvent: event("job.completed", object(completed)),
  JobFailedEvent: event(
    "job.failed",
    object({
      ...facts("error", ["pending", "processing"]),
      failed_at: time,
      error_code: ref("ErrorCode"),
      error_message: { type: "string" },
      error_reason: { type: "string", description: "The finer reason, from the table at /docs#errors." },
      error_field: nullable("string", { description: "The field of the request that was wrong, where there is one." }),
      retryable: { type: "boolean" },
    }),
  ),
  WebhookTestEvent: event("webhook.test", object(completed, [], { description: "The fields of job.completed; no request has its id." })),
};

/** OpenAPI's `webhooks`: what this server sends to the account's URL, or to a request's own. */
export function webhookEvents(prefix: string): Readonly<Record<string, Schema>> {
  return Object.fromEntries(
    Object.entries(EVENTS).map(([name, { schema, summary }]) => {
      const post = {
        tags: ["Webhooks"],
        operationId: `on${schema.replace(/Event$/, "")}`,
        summary,
        security: [],
        parameters: headers(prefix, name),
        requestBody: { required: true, content: json(ref(schema)) },
        responses: {
          "2XX": { description: "Delivered. The answer's body does not matter." },
          410: { description: "Gone for good: no further attempt, and the URL it came from is not called again." },
          default: { description: "Anything else, a redirect too, and no answer within 10 s: attempted again, ten times within 23 hours." },
        },
      };
      return [name, { post }] as const;
    }),
  );
}

const text: Schema = { type: "string" };

function headers(prefix: string, event: string): readonly Schema[] {
  const header = (name: string, description: string, schema: Schema = text): Schema => ({
    name,
    in: "header",
    required: true,
    description,
    schema,
  });
  return [
    header(
      `${prefix}-Signature`,
      "`sha256=` and the hex HMAC-SHA256 of `<timestamp>.<body>`; empty where the account has no secret. During an overlap of two secrets, of the new one.",
    ),
    header(`${prefix}-Timestamp`, "Unix seconds of this attempt: refuse what is more than 300 s off.", { type: "integer" }),
    header(`${prefix}-Event`, "The event's name.", { type: "string", enum: [event] }),
    header(`${prefix}-Delivery-Id`, "`delivery_id` of the body.", uuid),
    header("webhook-id", "The same, as Standard Webhooks calls it.", uuid),
    header("webhook-timestamp", "The same as the timestamp above.", { type: "integer" }),
    header(
      "webhook-signature",
      "Standard Webhooks 1.0.0: `v1,` and the base64 HMAC-SHA256 of `<id>.<timestamp>.<body>`; one for each secret that is valid, with a space between them.",
    ),
  ];
}
