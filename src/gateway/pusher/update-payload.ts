import type { JobState } from "../../core/job-state.ts";
import { ERROR_TABLE, isErrorCode, type ErrorCode } from "../../protocol/error.ts";
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
      return { ...base, status: "error", ...errorOf(event.errorCode ?? "INTERNAL") };
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
      return { ...base, status: "error", ...errorOf(state.error?.code ?? "INTERNAL") };
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

/** A code that a newer worker wrote is told as an internal error. */
function errorOf(code: ErrorCode): { readonly error_code: string; readonly error_message: string } {
  const { apiCode, publicText } = ERROR_TABLE[isErrorCode(code) ? code : "INTERNAL"];
  return { error_code: apiCode, error_message: publicText };
}
