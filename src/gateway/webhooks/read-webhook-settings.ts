import { isAbsent, readBoolean } from "../../core/field-value.ts";
import type { SettingsChange, WebhookSettings } from "../../state/open-webhooks.ts";
import { invalid, type FieldErrors } from "../http/errors.ts";
import { urlProblemOf } from "./read-hook.ts";

type Wanted = Omit<SettingsChange, "at">;

/**
 * `url`, `enabled`, `rotate_secret`: what is not sent stays as it is, and a new webhook is enabled. An empty `url` removes the webhook: null.
 * @throws HttpProblem 422
 */
export function readSettings(
  fields: Readonly<Record<string, unknown>>,
  present: WebhookSettings | null,
  allowHttp: boolean,
): Wanted | null {
  const { url, enabled, rotate_secret: rotate } = fields;
  const errors: Record<string, readonly string[]> = {};
  const flagOf = (name: string, value: unknown, fallback: boolean): boolean => {
    if (isAbsent(value)) return fallback;
    const read = readBoolean(value);
    if (!read.ok) errors[name] = [`The ${name} field ${read.problem}`];
    return read.ok && read.value;
  };
  const wanted = {
    enabled: flagOf("enabled", enabled, present?.enabled ?? true),
    rotateSecret: flagOf("rotate_secret", rotate, false),
  };
  const removes = url !== undefined && isAbsent(url);
  const problem = isAbsent(url) ? null : urlProblemOf(url, allowHttp);
  if (problem !== null) errors["url"] = [`The url field ${problem}`];
  if (url === undefined && present === null) errors["url"] = ["The url field is required."];
  if (Object.keys(errors).length > 0) throw invalid(errors satisfies FieldErrors);
  return removes ? null : { ...wanted, url: isAbsent(url) ? (present?.url ?? "") : String(url) };
}
