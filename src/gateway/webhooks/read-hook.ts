import { isAbsent, readText } from "../../core/field-value.ts";
import { MAX_URL_CHARS, urlProblem } from "../../core/url-syntax.ts";
import type { FieldErrors } from "../http/errors.ts";

export interface HookFields {
  /** Null: the account's, if it has one. */
  readonly url: string | null;
  readonly secret: string | null;
  readonly errors: FieldErrors;
}

const MIN_SECRET = 32;
const MAX_SECRET = 255;

/** `webhook_url` and `webhook_secret` of a request. Whether the address is a public one is judged when it is delivered to. */
export function readHook(fields: Readonly<Record<string, unknown>>, allowHttp: boolean): HookFields {
  const { webhook_url: url, webhook_secret: secret } = fields;
  const errors: Record<string, readonly string[]> = {};
  const problem = isAbsent(url) ? null : urlProblemOf(url, allowHttp);
  if (problem !== null) errors["webhook_url"] = [`The webhook_url field ${problem}`];
  if (!isAbsent(secret)) {
    if (isAbsent(url)) errors["webhook_secret"] = ["The webhook_secret field needs a webhook_url."];
    else if (!readText(secret, { min: MIN_SECRET, max: MAX_SECRET }).ok)
      errors["webhook_secret"] = [`The webhook_secret field must have ${MIN_SECRET} to ${MAX_SECRET} characters.`];
  }
  return { url: isAbsent(url) ? null : String(url), secret: isAbsent(secret) ? null : String(secret), errors };
}

/** Completes "The x field ..."; null for a URL that webhooks may go to. */
export function urlProblemOf(url: unknown, allowHttp: boolean): string | null {
  if (typeof url !== "string") return "must be a string.";
  return url.length > MAX_URL_CHARS ? `must not be greater than ${MAX_URL_CHARS} characters.` : urlProblem(url, { allowHttp });
}
