import { ERROR_TABLE, publicMessage } from "../protocol/error.ts";
import type { RequestRecord } from "../protocol/request.ts";
import { TASKS } from "../protocol/task.ts";
import type { WebhookBody } from "../protocol/webhook.ts";
import type { JobState } from "./job-state.ts";

type Facts = { readonly record: RequestRecord; readonly deliveryId: string };

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
  facts: Facts & { readonly state: JobState; readonly resultUrl: string | null; readonly now: number },
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

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
