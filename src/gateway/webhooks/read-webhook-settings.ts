import { isAbsent, readBoolean, readChoice, readNumber, type FieldValue } from "../../core/field-value.ts";
import { WEBHOOK_EVENTS, type WebhookEventName } from "../../protocol/webhook.ts";
import { DEFAULT_OVERLAP_MS } from "../../state/open-webhook-secrets.ts";
import type { SettingsChange } from "../../state/open-webhooks.ts";
import type { WebhookSettings } from "../../state/webhook-settings.ts";
import { conflict, invalid } from "../http/errors.ts";
import { urlProblemOf } from "./read-hook.ts";

type Fields = Readonly<Record<string, unknown>>;

const HOUR_MS = 3_600_000;
const MAX_OVERLAP_HOURS = 168;

/** Reads fields one by one, and throws what is wrong with any of them at the end. */
class FieldReader {
  readonly #fields: Fields;
  readonly #errors: Record<string, readonly string[]> = {};

  constructor(fields: Fields) {
    this.#fields = fields;
  }

  read<T>(name: string, fallback: T, read: (value: unknown) => FieldValue<T>): T {
    const value = this.#fields[name];
    if (isAbsent(value)) return fallback;
    const found = read(value);
    if (found.ok) return found.value;
    this.refuse(name, found.problem);
    return fallback;
  }

  refuse(name: string, problem: string): void {
    this.#errors[name] = [`The ${name} field ${problem}`];
  }

  /** @throws HttpProblem 422 */
  end(): void {
    if (Object.keys(this.#errors).length > 0) throw invalid(this.#errors);
  }
}

/**
 * `url`, `enabled`, `rotate_secret`: what is not sent stays as it is, and a new webhook is enabled. An empty `url` removes the webhook: null.
 * @throws HttpProblem 422; 409 where there is nothing to change
 */
export function readSettings(fields: Fields, present: WebhookSettings, allowHttp: boolean): Omit<SettingsChange, "at"> | null {
  const reader = new FieldReader(fields);
  const wanted = {
    enabled: reader.read("enabled", present.url === null || present.enabled, readBoolean),
    rotateSecret: reader.read("rotate_secret", false, readBoolean),
    url: reader.read("url", present.url ?? "", (url) => readHookUrl(url, allowHttp)),
  };
  reader.end();
  if (fields["url"] === undefined && present.url === null) throw conflict("No webhook is set: send a url.");
  return fields["url"] !== undefined && isAbsent(fields["url"]) ? null : wanted;
}

/** `replace`, `overlap_hours`. @throws HttpProblem 422 */
export function readSecretWish(fields: Fields): { readonly replace: boolean; readonly overlapMs: number } {
  const reader = new FieldReader(fields);
  const replace = reader.read("replace", false, readBoolean);
  const bounds = { min: 0, max: MAX_OVERLAP_HOURS, integer: true };
  const hours = reader.read("overlap_hours", DEFAULT_OVERLAP_MS / HOUR_MS, (value) => readNumber(value, bounds));
  reader.end();
  return { replace, overlapMs: hours * HOUR_MS };
}

/** `event`, `url` of a test delivery. @throws HttpProblem 422 */
export function readTestWish(fields: Fields, allowHttp: boolean): { readonly event: WebhookEventName; readonly url: string | null } {
  const reader = new FieldReader(fields);
  const event = reader.read("event", "webhook.test", (value) => readChoice(value, WEBHOOK_EVENTS)) as WebhookEventName;
  const url = reader.read<string | null>("url", null, (value) => readHookUrl(value, allowHttp));
  reader.end();
  return { event, url };
}

function readHookUrl(url: unknown, allowHttp: boolean): FieldValue<string> {
  const problem = urlProblemOf(url, allowHttp);
  return problem === null ? { ok: true, value: String(url) } : { ok: false, problem };
}
