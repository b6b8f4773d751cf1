import type { Manifest } from "../../protocol/manifest.ts";
import { when, type Schema } from "./schema.ts";

/** What stands for a field that does not come, where a model does not take it. */
export const ABSENT: Schema = { enum: [null, ""] };

export const NO_LORAS: Schema = {
  type: ["array", "null"],
  items: { type: "object" },
  maxItems: 0,
  description: "No model here has LoRAs.",
};

/** Slugs of those that are offered now. */
export function modelSchema(models: readonly Manifest[]): Schema {
  const description = "A slug of GET /api/v1/client/models.";
  return models.length === 0
    ? { type: "string", minLength: 1, description: "No model for this task is offered now." }
    : { type: "string", enum: models.map(({ slug }) => slug), description };
}

const HOST = "[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?";
export const MAX_URL = 2_048;

/** An http(s) URL without a user name, as `new URL()` reads it. */
export function urlSchema(allowHttp: boolean, description?: string): Schema {
  const pattern = `^https${allowHttp ? "?" : ""}://${HOST}(:[0-9]{1,4})?([/?#][^\\s]*)?$`;
  return { type: "string", format: "uri", pattern, maxLength: MAX_URL, ...(description !== undefined && { description }) };
}

export function webhookFields(allowHttp: boolean): Readonly<Record<string, Schema>> {
  return {
    webhook_url: urlSchema(allowHttp, "Where the events of this request go, instead of the account's URL. A public address."),
    webhook_secret: {
      type: "string",
      minLength: 32,
      maxLength: 255,
      description: "Signs the events of this request, instead of the account's secret. Only with webhook_url.",
    },
  };
}

export const SECRET_NEEDS_URL: Schema = when(
  { required: ["webhook_secret"], properties: { webhook_secret: { type: "string" } } },
  { required: ["webhook_url"], properties: { webhook_url: { type: "string" } } },
);
