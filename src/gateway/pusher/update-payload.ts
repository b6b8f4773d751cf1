import type { JobState } from "../../core/job-state.ts";
import { ERROR_TABLE, isErrorCode, publicMessage, type ErrorCode } from "../../protocol/error.ts";
import type { JobEvent } from "../../protocol/event.ts";
import { channelOf, frame } from "../../protocol/pusher.ts";
import { previewUri } from "../views/status-body.ts";
import type { Update } from "./socket-session.ts";

export const UPDATE_EVENT = "request.status.updated";

/** Data of `request.status.updated`. */
export interface UpdatePayload {
  readonly request_id: string;
  readonly status: "processing" | "in_progress" | "done" | "error";
  /** Percent, as a text with two decimals. */
  readonly progress: string;
  readonly preview: string | null;
  readonly result_url: string | null;
  readonly error_code?: string;
  readonly error_message?: string;
  /** The code of the closed error table. */
  readonly error_reason?: ErrorCode;
  /** The field of the request that is to blame. */
  readonly error_field?: string | null;
  /** Told from the present state: at a subscription, or after an outage. The client may have heard of it before. Absent otherwise. */
  readonly replayed?: true;
}

/** Null for events that change nothing for a client: a job that goes back to its queue stays in processing. */
export function updateOf(event: JobEvent, resultUrl: string | null): UpdatePayload | null {
  const base = { request_id: event.id, progress: event.progress.toFixed(2), preview: previewUri(event.preview ?? null), result_url: null };
  switch (event.type) {
    case "processing":
      return { ...base, status: "processing" };
    case "progress":
    case "preview":
      return { ...base, status: "in_progress" };
    case "done":
      return { ...base, status: "done", progress: "100.00", result_url: resultUrl };
    case "error":
      return { ...base, status: "error", ...errorOf({ code: event.errorCode, message: event.errorMessage, field: event.errorField }) };
    case "requeued":
      return null;
  }
}

/** What is told of a request's present state; null while it waits in its queue. */
export function presentOf(id: string, state: JobState, resultUrl: string | null): UpdatePayload | null {
  const progress = state.progress.toFixed(2);
  const base = { request_id: id, progress, preview: previewUri(state.preview), result_url: resultUrl, replayed: true } as const;
  switch (state.status) {
    case "pending":
      return null;
    case "processing":
      return { ...base, status: "in_progress" };
    case "done":
      return { ...base, status: "done" };
    case "error":
      return { ...base, status: "error", ...errorOf(state.error === null ? {} : { ...state.error, message: publicMessage(state.error) }) };
  }
}

export function isEnd({ status }: UpdatePayload): boolean {
  return status === "done" || status === "error";
}

/** The payload as sockets of the client get it. */
export function toUpdate(client: string, payload: UpdatePayload, seq: number): Update {
  return {
    requestId: payload.request_id,
    seq,
    frame: Buffer.from(frame(UPDATE_EVENT, payload, channelOf(client))),
    hasPreview: payload.preview !== null,
    isEnd: isEnd(payload),
  };
}

interface Told {
  readonly code?: ErrorCode | undefined;
  /** What clients read; absent in events of older workers. */
  readonly message?: string | undefined;
  readonly field?: string | undefined;
}

/** A code that a newer worker wrote is told as an internal error, as the status tells it. */
function errorOf({ code, message, field }: Told): Pick<UpdatePayload, "error_code" | "error_message" | "error_reason" | "error_field"> {
  if (!isErrorCode(code)) return errorOf({ code: "INTERNAL" });
  const { apiCode, publicText } = ERROR_TABLE[code];
  return { error_code: apiCode, error_message: message ?? publicText, error_reason: code, error_field: field ?? null };
}
