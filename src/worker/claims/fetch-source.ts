import { open } from "node:fs/promises";
import { FetchFailure } from "../../net/fetch-failure.ts";
import type { GuardedFetch } from "../../net/open-guarded-fetch.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { JobParams } from "../../protocol/job.ts";
import type { Task } from "../../protocol/task.ts";
import { mediaType } from "../../requests/media-type.ts";

/** Tasks whose input is a URL, and the parameter that holds it. */
const URL_PARAMETERS: Partial<Record<Task, string>> = { aud2txt: "audio_url", vid2txt: "video_url" };
/** For the whole file; the job's own time limit may be shorter. */
const TIMEOUT_MS = 600_000;
/** Enough to know a page or a playlist by. */
const HEAD_BYTES = 512;

/** Where a job's input lies. */
export interface Source {
  /** The parameter that says so. */
  readonly field: string;
  readonly url: string;
}

/** Null for jobs whose inputs were uploaded. */
export function sourceOf(task: Task, params: JobParams): Source | null {
  const field = URL_PARAMETERS[task] ?? "";
  const url = params[field];
  return typeof url === "string" ? { field, url } : null;
}

export interface FetchSourceOptions extends Source {
  readonly path: string;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Brings a client's media file here, past the guard against private addresses. Pages are refused: players and their streams are not followed.
 * @throws AppError SOURCE_* | TOO_MANY_REDIRECTS | INPUT_TOO_LARGE, all with the field; `signal.reason`
 */
export async function fetchSource(
  fetch: Pick<GuardedFetch, "download">,
  { field, url, path, maxBytes, signal }: FetchSourceOptions,
): Promise<RunnerJob["inputs"][number]> {
  try {
    const { contentType } = await fetch.download({ url, path, maxBytes, signal, timeoutMs: TIMEOUT_MS });
    const other = describeOther(await readHead(path), contentType ?? "");
    if (other !== null) throw new FetchFailure("answer", `it leads to ${other}, expected a sound or film file itself`);
    return { name: field, path, contentType: contentType ?? "application/octet-stream" };
  } catch (thrown) {
    if (!(thrown instanceof FetchFailure)) throw thrown;
    const { message, retryAfterMs } = thrown;
    throw new AppError(codeOf(thrown), `${field} was not downloaded: ${message}`, {
      field,
      detail: sentence(message),
      cause: thrown,
      ...(retryAfterMs !== null && { retryAfterMs }),
    });
  }
}

/** What the same request would meet again is final; the rest may be better in a while. */
function codeOf({ reason, status }: FetchFailure): ErrorCode {
  switch (reason) {
    case "refused":
      return "SOURCE_REFUSED";
    case "redirect":
      return "TOO_MANY_REDIRECTS";
    case "answer":
      return "SOURCE_UNPROCESSABLE";
    case "certificate":
      return "SOURCE_CERTIFICATE_INVALID";
    case "too-large":
      return "INPUT_TOO_LARGE";
    case "status":
      return statusCode(status ?? 0);
    case "timeout":
    case "network":
      return "SOURCE_DOWNLOAD_FAILED";
  }
}

/** 4xx is about the request and stays as it is, but for those that mean "not now". Not ready yet (202) may be so later. */
const NOT_NOW: ReadonlySet<number> = new Set([202, 408, 425, 429]);

function statusCode(status: number): ErrorCode {
  if (NOT_NOW.has(status) || status >= 500) return "SOURCE_DOWNLOAD_FAILED";
  if (status === 404 || status === 410) return "SOURCE_NOT_FOUND";
  return status >= 400 ? "SOURCE_RESTRICTED" : "SOURCE_UNPROCESSABLE";
}

/** By its content first: servers call files what they like. Null when it may be sound or film, which the model's own reader finds out. */
function describeOther(head: Buffer, contentType: string): string | null {
  const kind = mediaType(head)?.kind;
  if (kind === "audio" || kind === "video") return null;
  if (kind === "image") return "a picture";
  const text = head.toString("latin1").replace(/^(?:\u00EF\u00BB\u00BF)?\s*/, "");
  if (/^#EXTM3U|^<(?:\?xml[^>]*>\s*<)?MPD\b/i.test(text)) return "a playlist";
  const saysPage = /^\s*(text\/html|application\/xhtml)/i.test(contentType);
  return saysPage || /^<(!doctype html|html|head|body)\b/i.test(text) ? "a page" : null;
}

async function readHead(path: string): Promise<Buffer> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
  return buffer.subarray(0, bytesRead);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
