import { WEBHOOK_EVENTS } from "../../protocol/webhook.ts";
import { BOOLEAN, optional } from "./field-schema.ts";
import { answer, BEARER, BODY_FAILURES, failures, pathParameter, jsonBody, ref, uuid, type Schema } from "./schema.ts";
import { urlSchema } from "./shared-fields.ts";

const SETTINGS = "/api/v1/client/settings/webhook";
const DELIVERIES = "/api/v1/client/requests/{id}/deliveries";
const id = pathParameter("id", uuid, "The request's.");

/** The account's webhook, its secret, and what became of single deliveries. */
export function webhookPaths({ allowHttpWebhooks }: { readonly allowHttpWebhooks: boolean }): Readonly<Record<string, Schema>> {
  const operation = (operationId: string, summary: string, rest: Schema): Schema => ({
    tags: ["Webhooks"],
    operationId,
    summary,
    ...BEARER,
    ...rest,
  });
  const settings = answer("The settings.", ref("WebhookSettingsAnswer"));
  return {
    [SETTINGS]: {
      get: operation("webhookSettings", "The account's webhook", { responses: { ...settings, ...failures(400, 401, 500, 503) } }),
      put: operation("changeWebhookSettings", "Set, change or remove the account's webhook", {
        description:
          "What is not sent stays as it is. Without a URL there is nothing to change: 409 where none is sent. An empty one removes the webhook. `rotate_secret` makes a new secret, shown once.",
        requestBody: { content: jsonBody(settingsBody(allowHttpWebhooks)) },
        responses: { ...settings, ...failures(...BODY_FAILURES, 409) },
      }),
    },
    [`${SETTINGS}/secret`]: {
      post: operation("newWebhookSecret", "A new secret, shown once", {
        description: "While the overlap lasts both secrets sign every event, so that receivers can change over.",
        requestBody: { content: jsonBody(secretBody()) },
        responses: {
          ...answer("The secret and the settings.", ref("WebhookSecretAnswer")),
          ...failures(...BODY_FAILURES, 409),
        },
      }),
    },
    [`${SETTINGS}/secret/previous`]: {
      delete: operation("endWebhookSecretOverlap", "End the overlap now: only the new secret signs", {
        responses: { ...settings, ...failures(400, 401, 404, 409, 413, 415, 500, 503) },
      }),
    },
    [`${SETTINGS}/test`]: {
      post: operation("testWebhook", "Send a test event now, and tell what was answered", {
        description: "To the account's URL or to the one that is sent, one at a time. Its failure counts for nothing.",
        requestBody: { content: jsonBody(testBody(allowHttpWebhooks)) },
        responses: { ...answer("What came of it.", ref("WebhookTestAnswer")), ...failures(...BODY_FAILURES, 409, 429) },
      }),
    },
    [DELIVERIES]: {
      get: operation("listDeliveries", "The webhook deliveries of a request", {
        parameters: [id],
        responses: { ...answer("Its deliveries.", ref("DeliveriesAnswer")), ...failures(400, 401, 404, 409, 500, 503) },
      }),
    },
    [`${DELIVERIES}/{delivery}/redeliver`]: {
      post: operation("redeliver", "Deliver an event once more", {
        parameters: [id, pathParameter("delivery", { type: "string", pattern: "^[^\\u0000/]+$" }, "`delivery_id` of a delivery.")],
        responses: { ...answer("The delivery as it is now.", ref("DeliveryAnswer")), ...failures(400, 401, 404, 409, 413, 415, 500, 503) },
      }),
    },
  };
}

function settingsBody(allowHttp: boolean): Schema {
  return {
    type: "object",
    properties: {
      url: optional(urlSchema(allowHttp, "Where events go. Null or empty: the webhook is removed."), "json"),
      enabled: optional(BOOLEAN, "json"),
      rotate_secret: optional(BOOLEAN, "json"),
    },
  };
}

function secretBody(): Schema {
  const hours = { minimum: 0, maximum: 168, default: 24, description: "How long the previous secret signs, too." };
  return {
    type: "object",
    properties: {
      replace: { ...optional(BOOLEAN, "json"), description: "Needed where a secret exists: 409 without it." },
      overlap_hours: { type: ["integer", "null"], ...hours },
    },
  };
}

/** Events of a job carry the fields of a real one. */
function testBody(allowHttp: boolean): Schema {
  return {
    type: "object",
    properties: {
      event: optional({ type: "string", enum: WEBHOOK_EVENTS, default: "webhook.test" }, "json"),
      url: optional(urlSchema(allowHttp, "Instead of the account's."), "json"),
    },
  };
}
