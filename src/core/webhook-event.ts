import { ERROR_TABLE, publicMessage } from "../protocol/error.ts";
import type { RequestRecord } from "../protocol/request.ts";
import { TASKS } from "../protocol/task.ts";
import type { WebhookBody, WebhookEventName } from "../protocol/webhook.ts";
import type { JobState } from "./job-state.ts";

type Facts = { readonly record: Pick<RequestRecord, "id" | "task" | "startedAt">; readonly deliveryId: string };

/** `job.processing`. `startedAt`: unix ms. */
export function processingEvent({ record, deliveryId, startedAt }: Facts & { readonly startedAt: number }): WebhookBody {
  const at = iso(startedAt);
  return {
    event: "job.processing",
    delivery_id: deliveryId,
    timestamp: at,
    data: {
      job_request_id: record.id,
      status: "processing",
      previous_status: "pending",
      job_type: TASKS[record.task],
      started_at: at,
    },
  };
}

/** `job.completed` or `job.failed`; null while the request has not ended. `now`: for an end that nobody timed. */
export function endEvent(
  facts: Facts & {
    readonly state: Pick<JobState, "status" | "error" | "endedAt">;
    readonly resultUrl: string | null;
    readonly now: number;
  },
): WebhookBody | null {
  const { record, deliveryId, state } = facts;
  const endedAt = state.endedAt ?? facts.now;
  const at = iso(endedAt);
  const base = { job_request_id: record.id, job_type: TASKS[record.task] };
  if (state.status === "done") {
    return {
      event: "job.completed",
      delivery_id: deliveryId,
      timestamp: at,
      data: {
        ...base,
        status: "done",
        previous_status: "processing",
        completed_at: at,
        result_url: facts.resultUrl,
        processing_time_ms: record.startedAt === null ? null : Math.max(0, endedAt - record.startedAt),
      },
    };
  }
  if (state.error === null) return null;
  const row = ERROR_TABLE[state.error.code];
  return {
    event: "job.failed",
    delivery_id: deliveryId,
    timestamp: at,
    data: {
      ...base,
      status: "error",
      previous_status: record.startedAt === null ? "pending" : "processing",
      failed_at: at,
      error_code: row.apiCode,
      error_message: publicMessage(state.error),
      error_reason: state.error.code,
      error_field: state.error.field ?? null,
      retryable: row.retryable,
    },
  };
}

/** The request of every test event: no request has this id, and it has the form of one (UUID, version 4). */
export const TEST_REQUEST_ID = "00000000-0000-4000-8000-000000000000";
const TEST_RUN_MS = 1_000;

/**
 * A test delivery, with the fields of a real event and no others: typed receivers refuse what they do not know. `webhook.test` has those of
 * `job.completed`. `resultUrl` is fetched by receivers, so there must be a file. `now`: unix ms.
 */
export function testEvent(options: {
  readonly event: WebhookEventName;
  readonly deliveryId: string;
  readonly resultUrl: string;
  readonly now: number;
}): WebhookBody {
  const { event, deliveryId, resultUrl, now } = options;
  const facts = { record: { id: TEST_REQUEST_ID, task: "txt2img", startedAt: now - TEST_RUN_MS }, deliveryId } as const;
  if (event === "job.processing") return processingEvent({ ...facts, startedAt: now });
  const state =
    event === "job.failed"
      ? ({ status: "error", error: { code: "INTERNAL", message: "a test delivery" }, endedAt: now } as const)
      : ({ status: "done", error: null, endedAt: now } as const);
  const body = endEvent({ ...facts, state, resultUrl, now });
  if (body === null) throw new Error("a test event has no end: this is a bug");
  return { ...body, event };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
