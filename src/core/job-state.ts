import { ERROR_TABLE, parseFailedReason, type ErrorData } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import type { RequestRecord, Status } from "../protocol/request.ts";
import type { JobResult } from "../protocol/result.ts";

/** A job as its queue has it. */
export interface JobView {
  readonly state: "waiting" | "delayed" | "active" | "completed" | "failed" | "waiting-children";
  /** Set when it has failed. */
  readonly failedReason: string | null;
  /** Set when it has completed. */
  readonly result: JobResult | null;
  /** Why the result of a completed job cannot be read. */
  readonly unreadable?: string;
  readonly attemptsMade: number;
  /** Number of its last claim. */
  readonly claim: number;
  /** Times are unix ms by Redis' clock. */
  readonly addedAt: number;
  readonly processedAt: number | null;
  readonly finishedAt: number | null;
}

/** What a request's status needs of it. */
export type EndView = Pick<JobView, "state" | "failedReason" | "result" | "unreadable" | "finishedAt">;

export interface StateInput {
  readonly record: RequestRecord;
  /** Null when the queue has no such job. */
  readonly job: EndView | null;
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
}

/**
 * The one truth about a request, told by pollers, sockets and webhooks alike:
 *  - an accepted cancel (a mark from before the end) is `error` from the mark on, whatever the queue still says;
 *  - `completed` and `failed` are the end;
 *  - everything else is `processing` once a worker has dispatched the job, for good: a job that was handed back, waits for a retry
 *    or lost its worker never looks pending again.
 */
export function deriveStatus({ record, job, live }: StateInput): JobState {
  const endedAt = job?.finishedAt ?? null;
  const hasEnded = job?.state === "completed" || job?.state === "failed";
  if (record.cancelledAt !== null && !(hasEnded && endedAt !== null && endedAt <= record.cancelledAt)) {
    return failed({ code: "CANCELLED", message: ERROR_TABLE.CANCELLED.publicText }, live, record.cancelledAt);
  }
  if (job?.state === "completed") return completed(job, live);
  if (job?.state === "failed") return failed(parseFailedReason(job.failedReason ?? "the queue keeps no reason"), live, endedAt);

  const open = { error: null, result: null, endedAt: null };
  if (record.startedAt === null) return { ...open, status: "pending", progress: 0, preview: null, stage: null };
  return { ...open, status: "processing", progress: progressOf(live), preview: live?.preview ?? null, stage: live?.stage ?? null };
}

function completed(job: EndView, live: JobEvent | null): JobState {
  const { result, finishedAt, unreadable } = job;
  if (unreadable !== undefined) return failed({ code: "RECORD_UNREADABLE", message: unreadable }, live, finishedAt);
  if (result === null) return failed({ code: "INTERNAL", message: "the job is completed but has no result record" }, live, finishedAt);
  const endedAt = finishedAt ?? result.finishedAt;
  return { status: "done", progress: 100, preview: null, stage: null, error: null, result, endedAt };
}

function failed(error: ErrorData, live: JobEvent | null, endedAt: number | null): JobState {
  return { status: "error", progress: progressOf(live), preview: null, stage: null, error, result: null, endedAt };
}

function progressOf(live: JobEvent | null): number {
  return Math.min(100, Math.max(0, live?.progress ?? 0));
}
