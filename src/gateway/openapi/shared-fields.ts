import { MAX_URL_CHARS, urlPattern } from "../../core/url-syntax.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { BodyKind } from "./field-schema.ts";
import type { Schema } from "./schema.ts";

export function loras(kind: BodyKind): Schema {
  const description = "No model here has LoRAs.";
  return kind === "json"
    ? { type: ["array", "null"], items: { type: "object" }, maxItems: 0, description }
    : { type: "string", enum: ["", "[]"], description };
}

/** Slugs of those that are offered now. */
export function modelSchema(models: readonly Manifest[]): Schema {
  const description = "A slug of GET /api/v1/client/models.";
  return models.length === 0
    ? { type: "string", minLength: 1, description: "No model for this task is offered now." }
    : { type: "string", enum: models.map(({ slug }) => slug), description };
}

/** An http(s) URL without a user name. */
export function urlSchema(allowHttp: boolean, description?: string): Schema {
  const pattern = urlPattern({ allowHttp });
  // No `format: uri`: that is RFC 3986's, and spaces and letters beyond ASCII are taken, too.
  return { type: "string", pattern, maxLength: MAX_URL_CHARS, ...(description !== undefined && { description }) };
}

export function webhookFields(allowHttp: boolean): Readonly<Record<string, Schema>> {
  return {
    webhook_url: urlSchema(allowHttp, "Where the events of this request go, instead of the account's URL. A public address."),
    webhook_secret: {
      type: "string",
      minLength: 32,
      maxLength: 255,
      pattern: "^[^\\u0000]*$",
      description: "Signs the events of this request, instead of the account's secret. Only with webhook_url.",
    },
  };
}

/** The secret of a request is for its own URL. */
export const SECRET_NEEDS_URL: Schema = {
  anyOf: [
    { properties: { webhook_secret: { enum: [null, ""] } } },
    { required: ["webhook_url"], properties: { webhook_url: { type: "string", minLength: 1 } } },
  ],
};
