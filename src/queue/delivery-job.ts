import { z } from "zod";
import { readStored, unixMs } from "../protocol/stored.ts";

/** The courier's queue: every job in it is one webhook to deliver. */
export const DELIVERY_QUEUE = "webhooks";

/**
 * What a job of the courier's queue carries; what it tells is read from the records when it is delivered. Job ids:
 *   <request id>.end               kind `end`: the BullMQ parent of the request's job, free once that has ended
 *   <request id>.processing        kind `processing`: added when a worker starts the request
 *   <delivery id>.again.<number>   kind `again`: a delivery that its client wants once more
 */
export type DeliveryJob =
  | { readonly kind: "end"; readonly requestId: string }
  | {
      readonly kind: "processing";
      readonly requestId: string;
      /** Unix milliseconds. */
      readonly startedAt: number;
    }
  | { readonly kind: "again"; readonly requestId: string; readonly deliveryId: string };

export const deliveryJobSchema: z.ZodType<DeliveryJob> = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("end"), requestId: z.string() }),
  z.object({ kind: z.literal("processing"), requestId: z.string(), startedAt: unixMs }),
  z.object({ kind: z.literal("again"), requestId: z.string(), deliveryId: z.string() }),
]);

/** @throws AppError RECORD_UNREADABLE */
export function parseDeliveryJob(id: string, value: unknown): DeliveryJob {
  return readStored(`job ${id} of the queue of webhooks`, { schema: deliveryJobSchema, newest: 1 }, value);
}

export const endJobId = (requestId: string): string => `${requestId}.end`;
export const startJobId = (requestId: string): string => `${requestId}.processing`;
export const againJobId = (deliveryId: string, number: number): string => `${deliveryId}.again.${number}`;
