import { ERROR_TABLE, parseFailedReason, type ErrorData } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import type { RequestRecord, Status } from "../protocol/request.ts";
import type { JobResult } from "../protocol/result.ts";

/** States of a BullMQ job; `unknown` is its word for a job that is nowhere. */
export type QueueState = "waiting" | "prioritized" | "delayed" | "waiting-children" | "active" | "completed" | "failed" | "unknown";

export interface JobView {
  readonly state: QueueState;
  readonly failedReason: string | null;
  readonly returnvalue: JobResult | null;
  /** Why there is none although the job is completed. */
  readonly unreadable?: string;
  /** Unix milliseconds; null until the job has ended. */
  readonly finishedOn: number | null;
}

export interface StateInput {
  readonly record: RequestRecord;
  /** Null when the queue has no such job. */
  readonly job: JobView | null;
  /** The last event of the request; null when there was none or it has expired. */
  readonly live: JobEvent | null;
}

export interface JobState {
  readonly status: Status;
  /** 0..100 */
  readonly progress: number;
  /** Base64 JPEG of the last preview, only while processing. */
  readonly preview: string | null;
  readonly stage: string | null;
  /** Set exactly when the status is `error`. */
  readonly error: ErrorData | null;
  /** Set exactly when the status is `done`. */
  readonly result: JobResult | null;
  /** End of the request, unix ms; null while it goes on. */
  readonly endedAt: number | null;
  /** The record stands without a job: the add was lost and is to be repeated. */
  readonly jobMissing: boolean;
}

/**
 * The one truth about a request, told by pollers, sockets and webhooks alike:
 *  - an accepted cancel (a mark from before the end) is `error` from the mark on, whatever the queue still says;
 *  - `completed` and `failed` are the end;
 *  - everything else is `processing` once a worker has dispatched the job, for good: a job that was handed back, waits for a retry
 *    or lost its worker never looks pending again.
 */
export function deriveStatus({ record, job, live }: StateInput): JobState {
  const known = job !== null && job.state !== "unknown" ? job : null;
  const endedAt = known?.finishedOn ?? null;
  const hasEnded = known?.state === "completed" || known?.state === "failed";
  if (record.cancelledAt !== null && !(hasEnded && endedAt !== null && endedAt <= record.cancelledAt)) {
    return failed({ code: "CANCELLED", message: ERROR_TABLE.CANCELLED.publicText }, live, record.cancelledAt);
  }
  if (known?.state === "completed") return completed(known, live);
  if (known?.state === "failed") return failed(parseFailedReason(known.failedReason ?? "the queue keeps no reason"), live, endedAt);

  const open = { error: null, result: null, endedAt: null, jobMissing: known === null };
  if (record.startedAt === null) return { ...open, status: "pending", progress: 0, preview: null, stage: null };
  return { ...open, status: "processing", progress: progressOf(live), preview: live?.preview ?? null, stage: live?.stage ?? null };
}

function completed(job: JobView, live: JobEvent | null): JobState {
  const result = job.returnvalue;
  if (job.unreadable !== undefined) return failed({ code: "RECORD_UNREADABLE", message: job.unreadable }, live, job.finishedOn);
  if (result === null) return failed({ code: "INTERNAL", message: "the job is completed but has no result record" }, live, job.finishedOn);
  const endedAt = job.finishedOn ?? result.finishedAt;
  return { status: "done", progress: 100, preview: null, stage: null, error: null, result, endedAt, jobMissing: false };
}

function failed(error: ErrorData, live: JobEvent | null, endedAt: number | null): JobState {
  return { status: "error", progress: progressOf(live), preview: null, stage: null, error, result: null, endedAt, jobMissing: false };
}

function progressOf(live: JobEvent | null): number {
  return Math.min(100, Math.max(0, live?.progress ?? 0));
}
