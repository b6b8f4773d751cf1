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
  /** What a client may read; details stay in logs and in `message` for operators. */
  readonly publicText: string;
}

const row = (apiCode: ApiErrorCode, retry: RetryPolicy, blame: Blame, http: number, publicText: string): ErrorRow => ({
  apiCode,
  retry,
  blame,
  http,
  publicText,
});

export const ERROR_TABLE = {
  INVALID_INPUT: row("INVALID_INPUT", "never", "client", 422, "The request's input is invalid."),
  IMAGE_UNREADABLE: row("INVALID_INPUT", "never", "client", 422, "The input image could not be read."),
  INPUT_TOO_LARGE: row("INVALID_INPUT", "never", "client", 413, "The input is too large."),
  INPUT_MISSING: row("INVALID_INPUT", "never", "client", 404, "A stored input of the request no longer exists."),
  SOURCE_DOWNLOAD_FAILED: row("INVALID_INPUT", "backoff", "upstream", 422, "The input URL could not be downloaded."),
  CONTEXT_LENGTH_EXCEEDED: row("CONTEXT_LENGTH_EXCEEDED", "never", "client", 422, "The input is longer than the model accepts."),
  CANCELLED: row("CANCELLED", "never", "client", 409, "The request was cancelled."),
  JOB_TIMEOUT: row("WORKER_TIMEOUT", "never", "model", 504, "The job took longer than its time limit."),
  STAGE_TIMEOUT: row("WORKER_TIMEOUT", "backoff", "machine", 504, "A stage of the job made no progress within its deadline."),
  RUNNER_CRASHED: row("WORKER_ERROR", "backoff", "machine", 500, "The inference process ended unexpectedly."),
  POISON_JOB: row("WORKER_ERROR", "never", "client", 500, "The job crashed the inference process repeatedly."),
  STALLED: row("WORKER_ERROR", "never", "machine", 500, "The workers that held the job were lost repeatedly."),
  OUT_OF_MEMORY: row("WORKER_ERROR", "backoff", "machine", 507, "The device ran out of memory."),
  DEVICE_FAILED: row("WORKER_ERROR", "backoff", "machine", 500, "The worker's device failed while it ran the job."),
  DOES_NOT_FIT: row("WORKER_ERROR", "elsewhere", "machine", 507, "The job does not fit the device's memory."),
  PIPELINE_FAILED: row("PROCESSING_ERROR", "backoff", "model", 500, "The model failed to process the job."),
  BAD_OUTPUT: row("PROCESSING_ERROR", "backoff", "model", 500, "The model produced an unusable output."),
  MODEL_NOT_FOUND: row("WORKER_ERROR", "elsewhere", "machine", 422, "The model is not available."),
  MODEL_CORRUPT: row("WORKER_ERROR", "elsewhere", "machine", 500, "The model's files are damaged on the worker."),
  MODEL_UNSUPPORTED: row("WORKER_ERROR", "elsewhere", "model", 500, "The model's files do not fit this worker."),
  MANIFEST_INVALID: row("WORKER_ERROR", "elsewhere", "model", 500, "The model's description is invalid on the worker."),
  LOAD_TIMEOUT: row("WORKER_TIMEOUT", "elsewhere", "machine", 504, "The model took too long to load."),
  DEVICE_UNAVAILABLE: row("WORKER_ERROR", "elsewhere", "machine", 500, "The worker's device is not available."),
  CAPACITY_UNAVAILABLE: row("WORKER_ERROR", "elsewhere", "machine", 503, "No capacity is available for the job."),
  JOB_VERSION_UNSUPPORTED: row("WORKER_ERROR", "elsewhere", "machine", 500, "The job was written by a newer version."),
  RECORD_UNREADABLE: row("WORKER_ERROR", "elsewhere", "machine", 500, "The stored record of the request cannot be read by this version."),
  IPC_MISMATCH: row("WORKER_ERROR", "elsewhere", "machine", 500, "The worker's parts are of different versions."),
  SPOOL_FULL: row("WORKER_ERROR", "backoff", "machine", 507, "The worker's disk is full."),
  STORAGE_UNAVAILABLE: row("WORKER_ERROR", "backoff", "upstream", 503, "The object store did not answer."),
  STORAGE_REJECTED: row("WORKER_ERROR", "backoff", "upstream", 500, "The object store refused the result."),
  REDIS_UNAVAILABLE: row("WORKER_ERROR", "backoff", "upstream", 503, "The queue is unreachable."),
  CONFIG_INVALID: row("WORKER_ERROR", "never", "machine", 500, "The configuration is invalid."),
  LOCK_LOST: row("WORKER_ERROR", "backoff", "machine", 500, "The worker lost its claim on the job."),
  INTERNAL: row("UNKNOWN_ERROR", "backoff", "machine", 500, "An internal error occurred."),
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
  readonly message: string;
  readonly blackBox?: BlackBox;
}

export interface AppErrorOptions {
  readonly cause?: unknown;
  readonly blackBox?: BlackBox;
}

/** A failure of one row of the table. `message` names the thing, the value, what was expected and what to do. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly blackBox: BlackBox | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
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
export const MAX_STDERR_BYTES: number = 4 * 1024;

/** By their shape alone: what crosses a process may stay in Redis for days. */
const redact = createRedactor([]);

/** A thrown value as data, cut to what a message and a failed reason may hold, and free of secrets: its text may hold a signed link. */
export function toErrorData(thrown: unknown, fallback: ErrorCode = "INTERNAL"): ErrorData {
  const error = asAppError(thrown, fallback);
  const data = { code: error.code, message: clipText(redact(error.message), MAX_ERROR_MESSAGE_BYTES) };
  if (error.blackBox === undefined) return data;
  const { stderr, ...rest } = error.blackBox;
  return { ...data, blackBox: { ...rest, ...(stderr === undefined ? {} : { stderr: clipText(redact(stderr), MAX_STDERR_BYTES, "end") }) } };
}

export function fromErrorData(data: ErrorData): AppError {
  return new AppError(data.code, data.message, data.blackBox === undefined ? {} : { blackBox: data.blackBox });
}

/** Reads a `failedReason`. Text that is not ours (BullMQ's own words) keeps its message under INTERNAL. */
export function parseFailedReason(text: string): ErrorData {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "code" in value && "message" in value && typeof value.message === "string") {
      // A code that a newer worker wrote counts as an internal error.
      if (!isErrorCode(value.code)) return { code: "INTERNAL", message: `${String(value.code)}: ${value.message}` };
      return value as ErrorData;
    }
  } catch {
    // Not JSON: BullMQ wrote it.
  }
  return { code: text.includes("stalled") ? "STALLED" : "INTERNAL", message: text };
}
