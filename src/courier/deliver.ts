import { backoffDelayMs, type BackoffPolicy } from "../lib/backoff.ts";
import { planNextAttempt, type DeliveryStep } from "../core/webhook-schedule.ts";
import { sendSigned, type SignedOutcome } from "../net/send-signed.ts";
import { isUnreadable } from "../protocol/stored.ts";
import type { DeliveryClaim, DeliveryQueue } from "../queue/open-delivery-queue.ts";
import type { AttemptOutcome, Delivery } from "../state/open-deliveries.ts";
import type { Standing } from "../state/open-webhook-secrets.ts";
import type { CourierContext } from "./courier-context.ts";
import { closedBecause, noteAnswer, noteEnd } from "./judge-receiver.ts";
import { prepareDelivery } from "./prepare-delivery.ts";

/** How often a delivery that came too early looks again: the more rarely the longer it does. */
const EARLY: BackoffPolicy = { firstMs: 30_000, factor: 2, maxMs: 600_000, jitter: 0 };

export interface DeliverOptions {
  readonly signal: AbortSignal;
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
  const { signal, persist } = options;
  const prepared = await persist(() => prepareDelivery(context, { job: claim.job, isFirst: claim.claim === 1 }));
  if (prepared.kind !== "ready") {
    const job = isUnreadable(claim.job) ? null : claim.job.requestId;
    log.warn({ job, delivery: claim.id, why: prepared.why }, `webhook ${prepared.kind}`);
    await persist(() => (prepared.kind === "early" ? queue.postpone(claim, backoffDelayMs(EARLY, claim.claim)) : queue.done(claim)));
    return;
  }
  const { delivery } = prepared;
  const standing = await persist(() => context.webhooks.standing(delivery));
  const closed = closedBecause(standing, claim.job);
  signal.throwIfAborted();
  const outcome = closed === null ? await send(context, delivery, { standing, signal }) : notSent(closed);
  const step: DeliveryStep = closed === null ? planNextAttempt(claim.attempt, outcome) : { kind: "failed" };
  tell(context, { claim, delivery, outcome, step });
  await persist(() => noteAnswer(context, delivery, { outcome, standing }));
  const ended = await persist(() => context.deliveries.record(delivery, recordOf(outcome, step)));
  if (ended && closed === null) await persist(() => noteEnd(context, delivery, step.kind === "delivered"));
  await persist(() => moveOn(queue, claim, { outcome, step }));
}

function send(
  { fetch, config }: CourierContext,
  { url, event, id: deliveryId, body }: Delivery,
  { standing, signal }: { readonly standing: Standing; readonly signal: AbortSignal },
): Promise<SignedOutcome> {
  return sendSigned(fetch, { url, event, deliveryId, body, headerPrefix: config.webhookHeaderPrefix, signal }, standing.secrets);
}

function notSent(why: string): SignedOutcome {
  return {
    at: Date.now(),
    durationMs: 0,
    status: null,
    error: why,
    answer: null,
    retryAfterMs: null,
    refusedAddress: null,
    signedWith: null,
  };
}

interface Attempted {
  readonly claim: DeliveryClaim;
  readonly delivery: Delivery;
  readonly outcome: SignedOutcome;
  readonly step: DeliveryStep;
}

async function moveOn(queue: DeliveryQueue, claim: DeliveryClaim, { outcome, step }: Pick<Attempted, "outcome" | "step">): Promise<void> {
  const reason = outcome.error ?? `status ${outcome.status}`;
  if (step.kind === "delivered") await queue.done(claim);
  else if (step.kind === "retry") await queue.retry(claim, { reason, ...step });
  else await queue.fail(claim, reason);
}

function recordOf({ at, durationMs, status, error, answer, signedWith }: SignedOutcome, step: DeliveryStep): AttemptOutcome {
  return {
    attempt: { at, durationMs, status, error, answer, signedWith: signedWith?.signer ?? null },
    state: step.kind === "retry" ? "pending" : step.kind,
    nextAttemptAt: step.kind === "retry" ? Date.now() + step.waitMs : null,
  };
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
