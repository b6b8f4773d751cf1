import { planNextAttempt, type DeliveryStep } from "../core/webhook-schedule.ts";
import { sendWebhook, type PostOutcome } from "../net/send-webhook.ts";
import { isUnreadable } from "../protocol/stored.ts";
import type { DeliveryClaim, DeliveryQueue } from "../queue/open-delivery-queue.ts";
import type { AttemptOutcome, Delivery } from "../state/open-deliveries.ts";
import { isAccountTarget } from "../state/open-webhooks.ts";
import type { CourierContext } from "./courier-context.ts";
import { prepareDelivery } from "./prepare-delivery.ts";

/** How often a delivery that came too early looks again. */
const EARLY_MS = 30_000;
/** A receiver that is busy with others' deliveries gets the next after this. */
const CROWDED_MS = 1_000;

export interface DeliverOptions {
  readonly signal: AbortSignal;
  /** A place at a receiver; null when it has none left. */
  readonly enter: (origin: string) => Disposable | null;
  /** Repeats a step while Redis is away. */
  readonly persist: <T>(step: () => Promise<T>) => Promise<T>;
}

/**
 * One attempt of one delivery: body from the log (made at the first attempt), signed now, sent, written into the log, and then the verb on the
 * queue. A crash before the verb repeats the attempt: at least once, with the same id and the same bytes.
 * @throws AppError LOCK_LOST | REDIS_UNAVAILABLE, `signal.reason`
 */
export async function deliver(context: CourierContext, claim: DeliveryClaim, options: DeliverOptions): Promise<void> {
  const { queue, log } = context;
  const { signal, enter, persist } = options;
  const prepared = await persist(() => prepareDelivery(context, claim.job));
  if (prepared.kind !== "ready") {
    const job = isUnreadable(claim.job) ? null : claim.job.requestId;
    log.warn({ job, delivery: claim.id, why: prepared.why }, `webhook ${prepared.kind}`);
    await persist(() => (prepared.kind === "early" ? queue.postpone(claim, EARLY_MS) : queue.done(claim)));
    return;
  }
  const { delivery } = prepared;
  // A URL in the log has been checked when it was accepted; what cannot be parsed now fails as an attempt.
  using place = enter(URL.parse(delivery.url)?.origin ?? "");
  if (place === null) {
    await persist(() => queue.postpone(claim, CROWDED_MS));
    return;
  }
  const { secretRef } = delivery;
  const secret = secretRef === null ? null : await persist(() => context.webhooks.readSecret(secretRef));
  const hasSecret = secretRef === null || secret !== null;
  signal.throwIfAborted();
  const outcome = hasSecret ? await send(context, delivery, { secret, signal }) : noSecret();
  const step: DeliveryStep = hasSecret ? planNextAttempt(claim.attempt, outcome.status) : { kind: "failed" };
  tell(context, { claim, delivery, outcome, step });
  const ended = await persist(() => context.deliveries.record(delivery.id, recordOf(outcome, step)));
  if (ended) await persist(() => countForAccount(context, delivery, step.kind === "delivered"));
  await persist(() => moveOn(queue, claim, { outcome, step }));
}

function send(
  { fetch, config }: CourierContext,
  { url, event, id: deliveryId, body }: Delivery,
  { secret, signal }: { readonly secret: string | null; readonly signal: AbortSignal },
): Promise<PostOutcome> {
  return sendWebhook(fetch, { url, secret, event, deliveryId, body, headerPrefix: config.webhookHeaderPrefix, signal });
}

/** The account's webhook was removed: nobody could tell the delivery from a forged one. */
function noSecret(): PostOutcome {
  const error = "the webhook that signed this was removed";
  return { at: Date.now(), durationMs: 0, status: null, error, answer: null, refusedAddress: null };
}

interface Attempted {
  readonly claim: DeliveryClaim;
  readonly delivery: Delivery;
  readonly outcome: PostOutcome;
  readonly step: DeliveryStep;
}

async function moveOn(queue: DeliveryQueue, claim: DeliveryClaim, { outcome, step }: Pick<Attempted, "outcome" | "step">): Promise<void> {
  const reason = outcome.error ?? `status ${outcome.status}`;
  if (step.kind === "delivered") await queue.done(claim);
  else if (step.kind === "retry") await queue.retry(claim, reason, step.waitMs);
  else await queue.fail(claim, reason);
}

function recordOf({ at, durationMs, status, error, answer }: PostOutcome, step: DeliveryStep): AttemptOutcome {
  return {
    attempt: { at, durationMs, status, error, answer },
    state: step.kind === "retry" ? "pending" : step.kind,
    nextAttemptAt: step.kind === "retry" ? Date.now() + step.waitMs : null,
  };
}

/** URLs of single requests are nobody's account. */
async function countForAccount({ webhooks, log }: CourierContext, delivery: Delivery, arrived: boolean): Promise<void> {
  const { client, url, secretRef } = delivery;
  if (!isAccountTarget(client, secretRef)) return;
  if (arrived) await webhooks.recordSuccess(client, url);
  else if (await webhooks.recordExhausted(client, url, Date.now()))
    log.warn({ client }, "the account's webhook was switched off: ten events in a row failed");
}

function tell({ metrics, log }: CourierContext, { claim, delivery, outcome, step }: Attempted): void {
  const result = step.kind;
  metrics.webhookAttempts.inc({ event: delivery.event, result });
  metrics.webhookSeconds.observe({ result }, outcome.durationMs / 1_000);
  const { status, error, durationMs, refusedAddress } = outcome;
  const line = { job: delivery.requestId, delivery: delivery.id, event: delivery.event, attempt: claim.attempt, status, error, durationMs };
  if (result === "delivered") log.info(line, "webhook delivered");
  else
    log.warn(
      { ...line, ...(refusedAddress !== null && { refusedAddress }) },
      result === "retry" ? "webhook attempt failed" : "webhook failed for good",
    );
}
