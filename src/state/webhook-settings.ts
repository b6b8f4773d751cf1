import { z } from "zod";
import { readStored, storedNumber, unixMs } from "../protocol/stored.ts";

/** An account's webhook and its secret; each exists without the other. */
export interface WebhookSettings {
  /** Null: the account has none, and only requests with a URL of their own are told. */
  readonly url: string | null;
  readonly enabled: boolean;
  /** Events in a row of which no attempt arrived. */
  readonly failureCount: number;
  /** Unix milliseconds; null unless it was switched off by its failures or by an answer 410. */
  readonly disabledAt: number | null;
  readonly disabledReason: "failures" | "gone" | null;
  /** Unix milliseconds; null without a URL. */
  readonly updatedAt: number | null;
  readonly hasSecret: boolean;
  /** Unix milliseconds; null without a secret, and for one made by a version that did not note it. */
  readonly secretCreatedAt: number | null;
  /** Unix milliseconds; null unless a replaced secret still signs. */
  readonly previousSecretExpiresAt: number | null;
}

export const settingsSchema: z.ZodType<WebhookSettings> = z.object({
  url: z.string().nullable(),
  enabled: z.boolean(),
  failureCount: z.number(),
  disabledAt: unixMs.nullable(),
  disabledReason: z.enum(["failures", "gone"]).nullable(),
  updatedAt: unixMs.nullable(),
  hasSecret: z.boolean(),
  secretCreatedAt: unixMs.nullable(),
  previousSecretExpiresAt: unixMs.nullable(),
});

/** The fields of the hash that go with the URL; the secret's stay when it is removed. */
export const URL_FIELDS = ["url", "enabled", "failures", "disabled_at", "disabled_reason", "updated_at"] as const;

/** @throws AppError RECORD_UNREADABLE */
export function readWebhookSettings(stored: {
  readonly hash: Readonly<Record<string, string>>;
  readonly hasSecret: boolean;
  readonly previousUntil: string;
}): WebhookSettings {
  const { hash, hasSecret, previousUntil } = stored;
  const disabledAt = storedNumber(hash["disabled_at"]);
  const reason = hash["disabled_reason"];
  return readStored(
    "the account's webhook",
    { schema: settingsSchema, newest: 1 },
    {
      url: hash["url"] ?? null,
      enabled: hash["enabled"] === "1",
      failureCount: storedNumber(hash["failures"]) ?? 0,
      disabledAt,
      // Failures were the only reason before there was a field for it.
      disabledReason: disabledAt === null ? null : reason === undefined || reason === "" ? "failures" : reason,
      updatedAt: storedNumber(hash["updated_at"]),
      hasSecret,
      secretCreatedAt: hasSecret ? storedNumber(hash["secret_at"]) : null,
      previousSecretExpiresAt: hasSecret ? storedNumber(previousUntil) : null,
    },
  );
}
