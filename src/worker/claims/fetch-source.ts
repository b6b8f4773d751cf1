import { FetchFailure, type FetchFailureReason } from "../../net/fetch-failure.ts";
import type { GuardedFetch } from "../../net/open-guarded-fetch.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { JobParams } from "../../protocol/job.ts";
import type { Task } from "../../protocol/task.ts";

/** Tasks whose input is a URL, and the parameter that holds it. */
const URL_PARAMETERS: Partial<Record<Task, string>> = { aud2txt: "audio_url", vid2txt: "video_url" };
/** For the whole file; the job's own time limit may be shorter. */
const TIMEOUT_MS = 600_000;

/** What the same request would meet again is final; the rest may be better in a while. */
const CODES: Readonly<Record<FetchFailureReason, ErrorCode>> = {
  refused: "INVALID_INPUT",
  redirect: "INVALID_INPUT",
  "too-large": "INPUT_TOO_LARGE",
  status: "SOURCE_DOWNLOAD_FAILED",
  timeout: "SOURCE_DOWNLOAD_FAILED",
  network: "SOURCE_DOWNLOAD_FAILED",
  answer: "SOURCE_DOWNLOAD_FAILED",
  certificate: "SOURCE_DOWNLOAD_FAILED",
};

/** The URL that a job's input lies at; null for jobs whose inputs were uploaded. */
export function sourceUrlOf(task: Task, params: JobParams): string | null {
  const url = params[URL_PARAMETERS[task] ?? ""];
  return typeof url === "string" ? url : null;
}

export interface FetchSourceOptions {
  readonly url: string;
  readonly path: string;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Brings a client's media file here, past the guard against private addresses. Pages are refused: players and their streams are not followed.
 * @throws AppError INVALID_INPUT | INPUT_TOO_LARGE | SOURCE_DOWNLOAD_FAILED; `signal.reason`
 */
export async function fetchSource(
  fetch: Pick<GuardedFetch, "download">,
  options: FetchSourceOptions,
): Promise<RunnerJob["inputs"][number]> {
  const { url, path, maxBytes, signal } = options;
  try {
    const { contentType } = await fetch.download({ url, path, maxBytes, signal, timeoutMs: TIMEOUT_MS });
    if (/^\s*(text\/html|application\/xhtml)/i.test(contentType ?? ""))
      throw new AppError("INVALID_INPUT", "the URL leads to a page, expected a sound or film file itself: only direct links are taken");
    return { name: "source", path, contentType: contentType ?? "application/octet-stream" };
  } catch (thrown) {
    if (!(thrown instanceof FetchFailure)) throw thrown;
    throw new AppError(CODES[thrown.reason], `the input URL was not downloaded: ${thrown.message}`, { cause: thrown });
  }
}
