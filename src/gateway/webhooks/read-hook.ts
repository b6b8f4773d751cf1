import { isAbsent } from "../../core/field-value.ts";
import type { FieldErrors } from "../http/errors.ts";

export interface HookFields {
  /** Null: the account's, if it has one. */
  readonly url: string | null;
  readonly secret: string | null;
  readonly errors: FieldErrors;
}

const MAX_URL = 2_048;
const MIN_SECRET = 32;
const MAX_SECRET = 255;

/** `webhook_url` and `webhook_secret` of a request. Whether the address is a public one is judged when it is delivered to. */
export function readHook(fields: Readonly<Record<string, unknown>>, allowHttp: boolean): HookFields {
  const { webhook_url: url, webhook_secret: secret } = fields;
  const errors: Record<string, readonly string[]> = {};
  const urlProblem = isAbsent(url) ? null : urlProblemOf(url, allowHttp);
  if (urlProblem !== null) errors["webhook_url"] = [`The webhook_url field ${urlProblem}`];
  if (!isAbsent(secret)) {
    if (isAbsent(url)) errors["webhook_secret"] = ["The webhook_secret field needs a webhook_url."];
    else if (typeof secret !== "string" || secret.length < MIN_SECRET || secret.length > MAX_SECRET)
      errors["webhook_secret"] = [`The webhook_secret field must have ${MIN_SECRET} to ${MAX_SECRET} characters.`];
  }
  return { url: isAbsent(url) ? null : String(url), secret: isAbsent(secret) ? null : String(secret), errors };
}

/** Completes "The x field ..."; null for a URL that webhooks may go to. */
export function urlProblemOf(url: unknown, allowHttp: boolean): string | null {
  if (typeof url !== "string") return "must be a string.";
  if (url.length > MAX_URL) return `must not be greater than ${MAX_URL} characters.`;
  const parsed = URL.parse(url);
  if (parsed === null) return "must be a valid URL.";
  if (parsed.protocol !== "https:" && !(allowHttp && parsed.protocol === "http:")) return "must begin with https://.";
  return parsed.username === "" && parsed.password === "" ? null : "must not hold a user name or password.";
}
