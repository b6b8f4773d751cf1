import { deriveStatus } from "../core/job-state.ts";
import { endEvent, processingEvent } from "../core/webhook-event.ts";
import type { RequestRecord } from "../protocol/request.ts";
import { deliveryIdOf, type WebhookBody } from "../protocol/webhook.ts";
import { isUnreadable, type Unreadable } from "../protocol/stored.ts";
import type { DeliveryJob } from "../queue/delivery-job.ts";
import type { Delivery } from "../state/open-deliveries.ts";
import { linkToFile } from "../requests/link-to-file.ts";
import type { CourierContext } from "./courier-context.ts";

export type Prepared =
  | { readonly kind: "ready"; readonly delivery: Delivery }
  /** There is nothing to tell, for good. */
  | { readonly kind: "dropped"; readonly why: string }
  /** Its time has not come. */
  | { readonly kind: "early"; readonly why: string };

/**
 * The delivery that a job of the queue stands for: the one in the log, or a new one whose body is fixed now. `isFirst`: nobody has claimed it
 * before, so there is none in the log yet.
 */
export async function prepareDelivery(
  context: CourierContext,
  { job, isFirst }: { readonly job: DeliveryJob | Unreadable; readonly isFirst: boolean },
): Promise<Prepared> {
  if (isUnreadable(job)) return { kind: "dropped", why: job.unreadable };
  const id = job.kind === "again" ? job.deliveryId : deliveryIdOf(job.requestId, job.kind);
  const known = isFirst && job.kind !== "again" ? null : await context.deliveries.get(id);
  if (known !== null) return { kind: "ready", delivery: known };
  if (job.kind === "again") return { kind: "dropped", why: "the delivery is not in the log any more" };
  const record = await context.requests.get(job.requestId);
  if (record === null) return { kind: "dropped", why: "the request's retention is over" };
  if (record.webhookUrl === null) return { kind: "dropped", why: "the request has no webhook" };
  const body =
    job.kind === "processing"
      ? processingEvent({ record, deliveryId: id, startedAt: job.startedAt })
      : await bodyOfEnd(context, record, id);
  if (body === null) return { kind: "early", why: "the request has not ended" };
  return { kind: "ready", delivery: await create(context, record, { id, body, url: record.webhookUrl }) };
}

/** Null while the request has not ended. */
async function bodyOfEnd(context: CourierContext, record: RequestRecord, deliveryId: string): Promise<WebhookBody | null> {
  // Its last event tells how far it came, which is nothing that an end is told with.
  const state = deriveStatus({ record, job: await context.queues.job(record.queue, record.id), live: null });
  const main = state.result?.files.find(({ role }) => role === "main");
  const resultUrl = main === undefined ? null : await linkToFile(context, record, main);
  const body = endEvent({ record, state, deliveryId, resultUrl, now: Date.now() });
  const startedAt = record.startedAt ?? (state.status === "done" ? state.endedAt : null);
  if (body !== null && startedAt !== null) await makeUpStart(context, record.id, startedAt);
  return body;
}

/** The worker announces a start when it can; when Redis was away just then, it is announced now. */
async function makeUpStart({ queue, deliveries }: CourierContext, requestId: string, startedAt: number): Promise<void> {
  if ((await deliveries.get(deliveryIdOf(requestId, "processing"))) === null) await queue.announceStart(requestId, startedAt);
}

async function create(
  { deliveries }: CourierContext,
  record: RequestRecord,
  { id, body, url }: { readonly id: string; readonly body: WebhookBody; readonly url: string },
): Promise<Delivery> {
  return deliveries.create({
    id,
    requestId: record.id,
    client: record.client,
    event: body.event,
    url,
    secretRef: record.webhookSecretRef,
    body: JSON.stringify(body),
    createdAt: Date.now(),
  });
}
