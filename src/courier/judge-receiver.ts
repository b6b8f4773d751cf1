import { GONE } from "../core/webhook-schedule.ts";
import type { SignedOutcome } from "../net/send-signed.ts";
import { isUnreadable, type Unreadable } from "../protocol/stored.ts";
import type { DeliveryJob } from "../queue/delivery-job.ts";
import type { Delivery } from "../state/open-deliveries.ts";
import type { Standing } from "../state/open-webhook-secrets.ts";
import { isAccountTarget } from "../state/webhook-targets.ts";
import type { CourierContext } from "./courier-context.ts";

/** Why nothing may be sent now; null: send. Who asks for a delivery again wants to know whether its receiver is back. */
export function closedBecause({ closed, goneAt }: Standing, job: DeliveryJob | Unreadable): string | null {
  if (closed !== null || goneAt === null || (!isUnreadable(job) && job.kind === "again")) return closed;
  return `the URL answered 410 (gone) at ${new Date(goneAt).toISOString()}, and nothing more is sent there; ask for this delivery again to try`;
}

/** What an answer says about its receiver, whichever way it was addressed. */
export async function noteAnswer(
  { webhooks, log }: CourierContext,
  { client, url }: Delivery,
  { outcome, standing }: { readonly outcome: SignedOutcome; readonly standing: Standing },
): Promise<void> {
  const { status, signedWith } = outcome;
  if (status === null) return;
  if (status === GONE) {
    if (await webhooks.recordGone(client, url)) log.warn({ client }, "the account's webhook was switched off: it answered 410 (gone)");
    return;
  }
  if (standing.goneAt !== null) await webhooks.liftGone(client, url);
  if (status >= 200 && status < 300 && signedWith !== null && standing.secrets.length > 1) webhooks.noteTaken({ client, url }, signedWith);
}

/**
 * What the end of a delivery says about the account's webhook. A URL that a request brought counts for nothing, even when it is the same as
 * the account's: it was its request's choice.
 */
export async function noteEnd({ webhooks, log }: CourierContext, delivery: Delivery, arrived: boolean): Promise<void> {
  if (!isAccountTarget(delivery)) return;
  const { client, url } = delivery;
  if (arrived) await webhooks.recordSuccess(client, url);
  else if (await webhooks.recordExhausted(client, url, Date.now()))
    log.warn({ client }, "the account's webhook was switched off: ten events in a row failed");
}
