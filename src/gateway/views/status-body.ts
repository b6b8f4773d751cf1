import { askedParams, type ParamsRoom } from "../../core/asked-params.ts";
import type { JobState } from "../../core/job-state.ts";
import type { WaitReason } from "../../core/model-availability.ts";
import { ERROR_TABLE, publicMessage } from "../../protocol/error.ts";
import type { RequestRecord } from "../../protocol/request.ts";
import type { ResultFile, Timings } from "../../protocol/result.ts";
import type { UnreadableRequest } from "../../requests/read-state.ts";

export interface StatusFacts {
  readonly record: RequestRecord;
  readonly state: JobState;
  /** A fresh link to one file of the result. */
  readonly linkOf: (file: ResultFile) => string;
  /** 1 = next; null when it does not wait. */
  readonly position: number | null;
  readonly etaMs: number | null;
  /** Why no worker takes it; null when it only waits for its turn, or does not wait. */
  readonly waits: WaitReason | null;
}

/** `data` of GET request-status. What does not apply is null, never missing. */
export function statusBody({ record, state, linkOf, position, etaMs, waits }: StatusFacts): Readonly<Record<string, unknown>> {
  const { result, status } = state;
  const main = result?.files.find(({ role }) => role === "main");
  return {
    request_id: record.id,
    ...askedFields(record, WHOLE),
    status,
    progress: Math.round(state.progress * 100) / 100,
    preview: previewUri(state.preview),
    result_url: main === undefined ? null : linkOf(main),
    results_alt_formats: altFormats(state, linkOf),
    result: result?.text ?? null,
    result_omitted: result?.info["text_omitted"] === true ? true : null,
    ...errorFields(state),
    queue_position: status === "pending" ? position : null,
    eta_ms: etaMs === null ? null : Math.max(0, Math.round(etaMs)),
    ...waitFields(waits),
    processing_time_ms: processingMs({ record, state }),
    seed: result?.seed ?? numberOrNull(record.params["seed"]),
    timings: result === null ? null : timingsBody(result.timings),
  };
}

/**
 * The same of a request that another version recorded, or that is damaged: what failed is that this gateway cannot read it, and the message
 * says why.
 */
export function unreadableStatus(unreadable: UnreadableRequest): Readonly<Record<string, unknown>> {
  return {
    ...unreadableFields(unreadable),
    preview: null,
    result_url: null,
    results_alt_formats: null,
    result: null,
    result_omitted: null,
    queue_position: null,
    eta_ms: null,
    processing_time_ms: null,
    seed: null,
    timings: null,
  };
}

/** What a row of a list tells of it, too. */
export function unreadableFields({ id, unreadable }: UnreadableRequest): Readonly<Record<string, unknown>> {
  return {
    request_id: id,
    task: null,
    model: null,
    created_at: null,
    params: null,
    params_truncated: false,
    status: "error",
    progress: 0,
    ...errorFields({ error: { code: "RECORD_UNREADABLE", message: unreadable, detail: `(${unreadable})` }, endedAt: null }),
    ...waitFields(null),
  };
}

/** Any text that the API takes, and some of them. */
const WHOLE: ParamsRoom = { text: 10_001, whole: 32_000 };
/** Of a row in a list: enough to know a request again. */
export const IN_A_LIST: ParamsRoom = { text: 300, whole: 1_500 };

/** What was asked for: parameters as the job runs with them, defaults and seed filled in. Neither files nor secrets. */
export function askedFields(
  { task, model, createdAt, params }: Pick<RequestRecord, "task" | "model" | "createdAt" | "params">,
  room: ParamsRoom,
): Readonly<Record<string, unknown>> {
  const asked = askedParams(params, room);
  return { task, model, created_at: new Date(createdAt).toISOString(), params: asked.params, params_truncated: asked.isCut };
}

/** Base64 JPEG -> data URI. */
export function previewUri(preview: string | null): string | null {
  return preview === null ? null : `data:image/jpeg;base64,${preview}`;
}

/** Start of processing -> end. */
export function processingMs({ record, state }: Pick<StatusFacts, "record" | "state">): number | null {
  return record.startedAt === null || state.endedAt === null ? null : Math.max(0, state.endedAt - record.startedAt);
}

const NO_ERROR = {
  error_code: null,
  error_message: null,
  error_reason: null,
  error_field: null,
  retryable: null,
  failed_at: null,
  error: null,
};

/** The fields of a failure, as clients of the contract know them; all null unless the status is `error`. */
export function errorFields({ error, endedAt }: Pick<JobState, "error" | "endedAt">): Readonly<Record<string, unknown>> {
  if (error === null) return NO_ERROR;
  const { apiCode, retryable } = ERROR_TABLE[error.code];
  const message = publicMessage(error);
  return {
    error_code: apiCode,
    error_message: message,
    error_reason: error.code,
    error_field: error.field ?? null,
    retryable,
    failed_at: endedAt === null ? null : new Date(endedAt).toISOString(),
    error: message,
  };
}

/** Why a pending request waits although its turn has come; both null for any other. */
export function waitFields(waits: WaitReason | null): Readonly<Record<string, unknown>> {
  return { waiting_reason: waits?.code ?? null, waiting_message: waits?.publicText ?? null };
}

/** By the ending of their names; null when there are none. */
function altFormats({ result }: JobState, linkOf: StatusFacts["linkOf"]): Readonly<Record<string, string>> | null {
  const alt = (result?.files ?? []).filter(({ role }) => role === "alt");
  if (alt.length === 0) return null;
  return Object.fromEntries(alt.map((file) => [file.name.slice(file.name.lastIndexOf(".") + 1), linkOf(file)]));
}

function timingsBody(timings: Timings): Readonly<Record<string, number>> {
  const { queueMs, loadMs, inputMs, runMs, encodeMs, uploadMs, wakeMs = 0, parkMs = 0 } = timings;
  return {
    queue_ms: queueMs,
    load_ms: loadMs,
    input_ms: inputMs,
    run_ms: runMs,
    encode_ms: encodeMs,
    upload_ms: uploadMs,
    wake_ms: wakeMs,
    park_ms: parkMs,
  };
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}
