import type { IncomingMessage } from "node:http";
import { saveStream } from "../lib/save-stream.ts";
import { codingsOf, decodeBody } from "./decode-body.ts";
import { asFetchFailure, FetchFailure } from "./fetch-failure.ts";
import type { Getter } from "./get-answer.ts";
import { isRedirect, nextUrl, type CheckUrl } from "./redirect.ts";
import { parseRetryAfter } from "../lib/retry-after.ts";
import { startWatch, type Watch } from "./transfer-watch.ts";

export interface DownloadRequest {
  readonly url: string;
  /** Appears only when whole. */
  readonly path: string;
  /** Of the file, decoded. */
  readonly maxBytes: number;
  /** For the whole of it, redirects included. */
  readonly timeoutMs: number;
  /** For a server to answer, and for each next MIN_BYTES of the file to come; a minute by default. */
  readonly stallMs?: number;
  readonly signal?: AbortSignal;
}

export interface Downloaded {
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
  /** What the server says it is: not to be believed. */
  readonly contentType: string | null;
}

export interface DownloadParts {
  readonly getter: Getter;
  readonly check: CheckUrl;
}

const STALL_MS = 60_000;

/**
 * GET into a file. Redirects are followed, each as if the client had named it. No cookie, credential or referrer is ever sent.
 * @throws FetchFailure | `signal.reason`
 */
export async function downloadFile(parts: DownloadParts, get: DownloadRequest): Promise<Downloaded> {
  const { timeoutMs, stallMs = STALL_MS, signal } = get;
  using watch = startWatch({ timeoutMs, stallMs, ...(signal !== undefined && { signal }) });
  try {
    const answer = await follow(parts, get.url, watch);
    return await save(answer, get, watch);
  } catch (thrown) {
    if (watch.signal.aborted) throw watch.signal.reason;
    throw asFetchFailure(thrown);
  }
}

async function follow({ getter, check }: DownloadParts, first: string, watch: Watch): Promise<IncomingMessage> {
  const seen: URL[] = [];
  for (let url = check(first); ;) {
    watch.beat();
    const answer = await getter.get(url, watch.signal);
    if (!isRedirect(answer)) return answer;
    // Whatever its body holds, nobody reads it.
    discard(answer);
    seen.push(url);
    url = nextUrl(answer, seen, check);
  }
}

async function save(answer: IncomingMessage, get: DownloadRequest, watch: Watch): Promise<Downloaded> {
  const { path, maxBytes } = get;
  const tooLarge = (): FetchFailure => new FetchFailure("too-large", `the file is larger than the allowed ${maxBytes} bytes`);
  try {
    const { headers } = answer;
    requireWhole(answer);
    if (Number(headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
    const codings = codingsOf(headers["content-encoding"], headers["transfer-encoding"]);
    const body = decodeBody(watch.through(answer), { codings, maxBytes, tooLarge });
    const saved = await saveStream(body, path, { maxBytes, tooLarge, check: requireContent, signal: watch.signal });
    return { ...saved, contentType: headers["content-type"] ?? null };
  } finally {
    discard(answer);
  }
}

/** 203 comes from a proxy that changed it; 206 may be the whole all the same, from servers that answer everything in ranges. */
function requireWhole(answer: IncomingMessage): void {
  const { statusCode: status = 0, headers, headersDistinct } = answer;
  if (new Set(headersDistinct["content-length"]).size > 1)
    throw new FetchFailure("answer", "the server's answer contradicts itself about its length");
  if (status === 200 || status === 203) return;
  if (status === 206) {
    const [, last, total] = /^bytes 0-(\d+)\/(\d+)$/i.exec(headers["content-range"]?.trim() ?? "") ?? [];
    if (last !== undefined && Number(last) + 1 === Number(total)) return;
    throw new FetchFailure("answer", "the server sent a part of the file (206), although all of it was asked for");
  }
  if (status === 204 || status === 205) throw new FetchFailure("answer", `the server answered ${status}: there is no file`);
  const retryAfterMs = parseRetryAfter(headers["retry-after"], headers.date);
  throw new FetchFailure("status", `the server answered ${status}`, { status, retryAfterMs });
}

function requireContent({ sizeBytes }: { readonly sizeBytes: number }): void {
  if (sizeBytes === 0) throw new FetchFailure("answer", "the server sent an empty file");
}

function discard(answer: IncomingMessage): void {
  answer.on("error", () => undefined).destroy();
}
