import { clipText } from "../lib/clip-text.ts";
import { createRedactor } from "./redact.ts";

/**
 * The closed table of failures. Every failure that crosses a process (runner -> daemon -> Redis -> client) is one row of it:
 * `code` is the fine reason (`error_reason` in the API), `apiCode` the coarse one that dryAPI's clients know (`error_code`).
 *
 * `retry` says what a claim that ended so does with its job:
 *   never      the job fails for good (the same input would fail again)
 *   backoff    retried by any worker after a delay, while attempts remain
 *   elsewhere  this host cannot do it, another might: passed on at most MAX_PASS_ON times, then it fails
 * `blame` says whose fault it counts as: a client's or a model's failure never counts against a device.
 */
export type RetryPolicy = "never" | "backoff" | "elsewhere";
export type Blame = "client" | "model" | "machine" | "upstream";
export type ApiErrorCode =
  | "WORKER_TIMEOUT"
  | "WORKER_ERROR"
  | "PROCESSING_ERROR"
  | "CONTEXT_LENGTH_EXCEEDED"
  | "INVALID_INPUT"
  | "CANCELLED"
  | "UNKNOWN_ERROR";

export interface ErrorRow {
  readonly apiCode: ApiErrorCode;
  readonly retry: RetryPolicy;
  readonly blame: Blame;
  /** Status where the failure is an answer to an HTTP request; jobs that fail after acceptance never yield one. */
  readonly http: number;
  /** What a client may read, a sentence; `detail` of an error adds the numbers. The rest stays in logs and in `message` for operators. */
  readonly publicText: string;
  /** What the client is to do about it. */
  readonly advice: string;
  /** Whether the same request, sent again unchanged, may succeed. */
  readonly retryable: boolean;
}

type Texts = readonly [publicText: string, advice: string];

const row = (
  apiCode: ApiErrorCode,
  retry: RetryPolicy,
  blame: Blame,
  http: number,
  [publicText, advice]: Texts,
  // What this system has tried again by itself may be tried again by a client.
  retryable: boolean = retry !== "never",
): ErrorRow => ({ apiCode, retry, blame, http, publicText, advice, retryable });

const input = (http: number, ...texts: Texts): ErrorRow => row("INVALID_INPUT", "never", "client", http, texts);

const LATER = "Send it again later.";
const OPERATOR = "Tell the operator: the model's files have to be repaired on the workers.";

export const ERROR_TABLE = {
  INVALID_INPUT: input(422, "The request's input is invalid.", "Correct the field that is named."),
  NO_SOUND_TRACK: input(422, "The file has no sound.", "Send a file with a sound track that is not empty."),
  MEDIA_UNREADABLE: input(
    422,
    "The sound or film file is damaged or of an unknown format.",
    "Send it as WAV, MP3, FLAC, Ogg, AAC, M4A, MP4, MOV, WebM, Matroska or AVI, and whole.",
  ),
  NOTHING_TO_SPEAK: input(422, "The text has nothing that can be spoken.", "Send a text with words of the chosen language."),
  IMAGE_UNREADABLE: input(422, "The input image could not be read.", "Send a whole JPEG, PNG, GIF, BMP or WebP picture."),
  IMAGE_SIZE_INVALID: input(422, "The input image is too small or too large.", "Scale it to a size within the limits that are named."),
  INPUT_TOO_LARGE: input(413, "The input is too large.", "Send a smaller or shorter file."),
  INPUT_MISSING: input(404, "A stored input of the request no longer exists.", "Send the request again, with its files."),
  REQUEST_UNKNOWN: input(404, "The request is not known.", "Check its id; requests are forgotten when their retention is over."),
  SOURCE_REFUSED: input(
    422,
    "The input URL may not be fetched.",
    "Name an http or https URL without user name or password on a public address. A redirect must not lead elsewhere, nor from https to http.",
  ),
  TOO_MANY_REDIRECTS: input(422, "The input URL redirects too often.", "Name the URL that the redirects end at."),
  SOURCE_NOT_FOUND: input(
    422,
    "There is nothing at the input URL.",
    "Check the URL; links that expire must still be valid when the job runs.",
  ),
  SOURCE_RESTRICTED: input(
    422,
    "The server at the input URL refused to give the file.",
    "Name a URL that needs no login, cookie or header, or upload the file.",
  ),
  SOURCE_UNPROCESSABLE: input(
    422,
    "The answer of the server at the input URL is no sound or film file.",
    "Name the direct URL of the file itself: pages, players and playlists are not followed.",
  ),
  SOURCE_CERTIFICATE_INVALID: input(
    422,
    "The server at the input URL has no valid certificate.",
    "Name a server with a certificate that is valid for its name.",
  ),
  SOURCE_DOWNLOAD_FAILED: row("INVALID_INPUT", "backoff", "upstream", 422, [
    "The input URL could not be downloaded.",
    "Send it again when its server is well, or upload the file.",
  ]),
  CONTEXT_LENGTH_EXCEEDED: row("CONTEXT_LENGTH_EXCEEDED", "never", "client", 422, [
    "The input is longer than the model accepts.",
    "Send a shorter one.",
  ]),
  CANCELLED: row("CANCELLED", "never", "client", 409, ["The request was cancelled.", "Nothing: somebody with your key asked for it."]),
  JOB_TIMEOUT: row("WORKER_TIMEOUT", "never", "model", 504, [
    "The job took longer than its time limit.",
    "Ask for less at once: fewer steps, a smaller picture, a shorter clip.",
  ]),
  STAGE_TIMEOUT: row("WORKER_TIMEOUT", "backoff", "machine", 504, ["A stage of the job made no progress within its deadline.", LATER]),
  RUNNER_CRASHED: row("WORKER_ERROR", "backoff", "machine", 500, ["The inference process ended unexpectedly.", LATER]),
  POISON_JOB: row("WORKER_ERROR", "never", "client", 500, [
    "The job crashed the inference process repeatedly.",
    "Change the request; tell the operator which one it was.",
  ]),
  STALLED: row("WORKER_ERROR", "never", "machine", 500, ["The workers that held the job were lost repeatedly.", LATER], true),
  OUT_OF_MEMORY: row("WORKER_ERROR", "backoff", "machine", 507, ["The device ran out of memory.", LATER]),
  DEVICE_FAILED: row("WORKER_ERROR", "backoff", "machine", 500, ["The worker's device failed while it ran the job.", LATER]),
  DOES_NOT_FIT: row(
    "WORKER_ERROR",
    "elsewhere",
    "machine",
    507,
    ["The job does not fit the device's memory.", "Ask for a smaller picture or a shorter clip."],
    false,
  ),
  PIPELINE_FAILED: row("PROCESSING_ERROR", "backoff", "model", 500, ["The model failed to process the job.", LATER]),
  BAD_OUTPUT: row("PROCESSING_ERROR", "backoff", "model", 500, ["The model produced an unusable output.", LATER]),
  MODEL_NOT_FOUND: row("WORKER_ERROR", "elsewhere", "machine", 422, ["The model is not available.", OPERATOR], false),
  MODEL_CORRUPT: row("WORKER_ERROR", "elsewhere", "machine", 500, ["The model's files are damaged on the worker.", OPERATOR], false),
  MODEL_UNSUPPORTED: row(
    "WORKER_ERROR",
    "elsewhere",
    "model",
    500,
    [
      "The model's files, or the programs that it needs, do not fit this worker.",
      "Tell the operator: the model's files or programs have to be mended on the workers.",
    ],
    false,
  ),
  MANIFEST_INVALID: row("WORKER_ERROR", "elsewhere", "model", 500, ["The model's description is invalid on the worker.", OPERATOR], false),
  LOAD_TIMEOUT: row("WORKER_TIMEOUT", "elsewhere", "machine", 504, ["The model took too long to load.", LATER]),
  DEVICE_UNAVAILABLE: row("WORKER_ERROR", "elsewhere", "machine", 500, ["The worker's device is not available.", LATER]),
  CAPACITY_UNAVAILABLE: row("WORKER_ERROR", "elsewhere", "machine", 503, ["No capacity is available for the job.", LATER]),
  JOB_VERSION_UNSUPPORTED: row("WORKER_ERROR", "elsewhere", "machine", 500, ["The job was written by a newer version.", LATER]),
  JOB_DAMAGED: row(
    "WORKER_ERROR",
    "never",
    "machine",
    500,
    ["The stored data of the job are damaged.", "Send the request again, with its files."],
    true,
  ),
  RECORD_UNREADABLE: row(
    "WORKER_ERROR",
    "elsewhere",
    "machine",
    500,
    ["The stored record of the request cannot be read by this version.", "Tell the operator: a newer version wrote it, or it is damaged."],
    false,
  ),
  IPC_MISMATCH: row("WORKER_ERROR", "elsewhere", "machine", 500, ["The worker's parts are of different versions.", LATER]),
  SPOOL_FULL: row("WORKER_ERROR", "backoff", "machine", 507, ["The worker's disk is full.", LATER]),
  STORAGE_UNAVAILABLE: row("WORKER_ERROR", "backoff", "upstream", 503, ["The object store did not answer.", LATER]),
  STORAGE_REJECTED: row("WORKER_ERROR", "backoff", "upstream", 500, ["The object store refused the result.", LATER]),
  REDIS_UNAVAILABLE: row("WORKER_ERROR", "backoff", "upstream", 503, ["The queue is unreachable.", LATER]),
  CONFIG_INVALID: row("WORKER_ERROR", "never", "machine", 500, ["The configuration is invalid.", "Tell the operator."]),
  LOCK_LOST: row("WORKER_ERROR", "backoff", "machine", 500, ["The worker lost its claim on the job.", LATER]),
  INTERNAL: row("UNKNOWN_ERROR", "backoff", "machine", 500, ["An internal error occurred.", LATER]),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === "string" && Object.hasOwn(ERROR_TABLE, value);
}

/** What is known about the process that suffered: kept on the failed job so that nobody has to look for a log ("black box"). */
export interface BlackBox {
  readonly signal?: string;
  readonly exitCode?: number;
  readonly stage?: string;
  readonly step?: number;
  readonly model?: string;
  readonly device?: string;
  readonly rssBytes?: number;
  /** The last lines of the child's stderr, at most 4 KiB. */
  readonly stderr?: string;
}

/** A failure as data: what crosses IPC and what `failedReason` of a BullMQ job holds (as JSON, at most 8 KiB). */
export interface ErrorData {
  readonly code: ErrorCode;
  /** For operators: may name files and machines. */
  readonly message: string;
  /** For clients, behind the code's public text: sentences that name limits, numbers and what the client sent, never paths or addresses of ours. */
  readonly detail?: string;
  /** The field of the request that is to blame, by the task's own name for it. */
  readonly field?: string;
  /** Somebody else asked not to be asked again before, milliseconds from then. */
  readonly retryAfterMs?: number;
  readonly blackBox?: BlackBox;
}

export interface AppErrorOptions extends Pick<ErrorData, "detail" | "field" | "retryAfterMs" | "blackBox"> {
  readonly cause?: unknown;
}

/** A failure of one row of the table. `message` names the thing, the value, what was expected and what to do. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly detail: string | undefined;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly blackBox: BlackBox | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.detail = options.detail;
    this.field = options.field;
    this.retryAfterMs = options.retryAfterMs;
    this.blackBox = options.blackBox;
  }

  get row(): ErrorRow {
    return ERROR_TABLE[this.code];
  }
}

/** Any thrown value as an AppError; what is not one already becomes `fallback` with the original as its cause. */
export function asAppError(thrown: unknown, fallback: ErrorCode = "INTERNAL"): AppError {
  if (thrown instanceof AppError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new AppError(fallback, message, { cause: thrown });
}

/** As JSON; together with the rest of a black box less than the 8 KiB of a failed reason. */
export const MAX_ERROR_MESSAGE_BYTES: number = 3 * 1024;
export const MAX_ERROR_DETAIL_BYTES = 300;
export const MAX_STDERR_BYTES: number = 4 * 1024;
/** Characters of a field's name: what is longer is no field of ours. */
export const MAX_ERROR_FIELD_CHARS = 64;

/** By their shape alone: what crosses a process may stay in Redis for days. */
const redact = createRedactor([]);

/** What a client reads about a failure. */
export function publicMessage({ code, detail }: { readonly code: ErrorCode; readonly detail?: string | undefined }): string {
  const { publicText } = ERROR_TABLE[code];
  return detail === undefined || detail === "" ? publicText : `${publicText} ${detail}`;
}

/** A thrown value as data, cut to what a message and a failed reason may hold, and free of secrets: its text may hold a signed link. */
export function toErrorData(thrown: unknown, fallback: ErrorCode = "INTERNAL"): ErrorData {
  const error = asAppError(thrown, fallback);
  const message = clipText(redact(error.message), MAX_ERROR_MESSAGE_BYTES);
  const data = { code: error.code, message, ...publicParts(error), ...(error.blackBox !== undefined && { blackBox: error.blackBox }) };
  if (data.blackBox?.stderr === undefined) return data;
  return { ...data, blackBox: { ...data.blackBox, stderr: clipText(redact(data.blackBox.stderr), MAX_STDERR_BYTES, "end") } };
}

export function fromErrorData(data: ErrorData): AppError {
  return new AppError(data.code, data.message, data);
}

type PublicParts = Pick<ErrorData, "detail" | "field" | "retryAfterMs">;

/** What of them is as it must be: they come from other processes and versions, too. */
function publicParts(error: object): PublicParts {
  const { detail, field, retryAfterMs } = error as { readonly [name in keyof PublicParts]?: unknown };
  return {
    ...(typeof detail === "string" && detail !== "" && { detail: clipText(redact(detail), MAX_ERROR_DETAIL_BYTES) }),
    ...(typeof field === "string" && field !== "" && field.length <= MAX_ERROR_FIELD_CHARS && { field }),
    ...(typeof retryAfterMs === "number" && retryAfterMs >= 0 && { retryAfterMs }),
  };
}

/** Reads a `failedReason`. Text that is not ours (BullMQ's own words) keeps its message under INTERNAL. */
export function parseFailedReason(text: string): ErrorData {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "code" in value && "message" in value && typeof value.message === "string") {
      // A code that a newer worker wrote counts as an internal error.
      if (!isErrorCode(value.code)) return { code: "INTERNAL", message: `${String(value.code)}: ${value.message}` };
      const { code, message } = value;
      const blackBox: BlackBox | null = "blackBox" in value && typeof value.blackBox === "object" ? value.blackBox : null;
      return { code, message, ...publicParts(value), ...(blackBox !== null && { blackBox }) };
    }
  } catch {
    // Not JSON: BullMQ wrote it.
  }
  return { code: text.includes("stalled") ? "STALLED" : "INTERNAL", message: text };
}
