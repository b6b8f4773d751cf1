import { isUnreadable } from "../../protocol/stored.ts";
import type { Delivery, DeliveryAttempt, UnreadableDelivery } from "../../state/open-deliveries.ts";
import type { WebhookSettings } from "../../state/webhook-settings.ts";

export type View = Readonly<Record<string, unknown>>;

/** `data` of the webhook settings; the secret is never among them. */
export function settingsView(settings: WebhookSettings): View {
  return {
    url: settings.url,
    enabled: settings.enabled,
    failure_count: settings.failureCount,
    disabled_at: iso(settings.disabledAt),
    disabled_reason: settings.disabledReason,
    updated_at: iso(settings.updatedAt),
    has_secret: settings.hasSecret,
    secret_created_at: iso(settings.secretCreatedAt),
    previous_secret_expires_at: iso(settings.previousSecretExpiresAt),
  };
}

export function deliveryView(delivery: Delivery | UnreadableDelivery): View {
  if (isUnreadable(delivery)) return unreadableView(delivery);
  return {
    delivery_id: delivery.id,
    event: delivery.event,
    url: delivery.url,
    status: delivery.state,
    created_at: iso(delivery.createdAt),
    next_attempt_at: iso(delivery.nextAttemptAt),
    redeliveries: delivery.redeliveries,
    attempt_count: delivery.attemptCount,
    attempts: delivery.attempts.map(attemptView),
    body: delivery.body,
  };
}

/** It is there, and this gateway cannot read it. */
function unreadableView({ id, unreadable }: UnreadableDelivery): View {
  return {
    delivery_id: id,
    event: null,
    url: null,
    status: "failed",
    created_at: null,
    next_attempt_at: null,
    redeliveries: 0,
    attempt_count: 0,
    attempts: [],
    body: null,
    error: unreadable,
  };
}

export function attemptView({ number, at, durationMs, status, error, answer, signedWith }: DeliveryAttempt): View {
  return {
    attempt: number,
    at: iso(at),
    duration_ms: durationMs,
    response_status: status,
    response_body: answer,
    error,
    signed_with: signedWith,
  };
}

function iso(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}
