import { backoffDelayMs, sleep, type BackoffPolicy, type Sleep } from "../../lib/backoff.ts";
import { parseRetryAfter } from "../../lib/retry-after.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import type { Answer } from "./http-get.ts";
import { refusal, type RemoteFile } from "./remote-files.ts";

export interface RetryOptions {
  /** In a row that bring nothing. */
  readonly tries: number;
  readonly signal?: AbortSignal;
  readonly sleep?: Sleep;
  /** A try that failed and is repeated. */
  readonly onTrouble?: (text: string) => void;
}

const RETRY: BackoffPolicy = { firstMs: 500, maxMs: 30_000, factor: 2, jitter: 0.3 };
const MAX_RETRY_AFTER_MS = 300_000;
/** A try that brought so many bytes got further. */
const PROGRESS_BYTES = 16 * 1024;

/** An answer that is no file, as an error; what may pass has `retryAfterMs`. */
export function failed(file: RemoteFile, { status, headers, url, body }: Answer): AppError {
  body.destroy();
  const page = new URL(file.url.pathname.split("/resolve/")[0] ?? "/", file.url).href;
  const refused = url.origin === file.url.origin ? refusal(status, file.url.href, page, file.authorization ?? null) : null;
  if (refused !== null) return refused;
  if (status === 200)
    return new AppError("MODEL_CORRUPT", `${file.url.href} changed while it was fetched, or gives no ranges any more; pull again`);
  const retryAfterMs = parseRetryAfter(headers["retry-after"], headers.date);
  const isPassing = status === 408 || status === 425 || status === 429 || status >= 500 || url.origin !== file.url.origin;
  return new AppError(
    isPassing ? "STORAGE_UNAVAILABLE" : "STORAGE_REJECTED",
    `${url.href} answers ${status}`,
    retryAfterMs === null ? {} : { retryAfterMs },
  );
}

/** Repeats what failed for the moment, waiting longer each time; a try that got further counts from the first again. */
export async function tried<T>(
  file: RemoteFile,
  options: RetryOptions,
  work: () => Promise<T>,
  reached: () => number = () => 0,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    const before = reached();
    try {
      return await work();
    } catch (thrown) {
      options.signal?.throwIfAborted();
      const error = asTransfer(thrown, file);
      if (reached() - before >= PROGRESS_BYTES) failures = 1;
      if (error.code !== "STORAGE_UNAVAILABLE" || failures >= options.tries) throw error;
      const waitMs = Math.min(error.retryAfterMs ?? backoffDelayMs(RETRY, failures), MAX_RETRY_AFTER_MS);
      options.onTrouble?.(`${error.message}; again in ${Math.ceil(waitMs / 1000)} s`);
      await (options.sleep ?? sleep)(waitMs, options.signal);
    }
  }
}

/** A connection that breaks in the middle of a body says so by an error of Node's. */
function asTransfer(thrown: unknown, file: RemoteFile): AppError {
  if (thrown instanceof AppError) return thrown;
  const code = (thrown as NodeJS.ErrnoException).code ?? "";
  if (/^(ECONN|EPIPE|ETIMEDOUT|ERR_STREAM_PREMATURE_CLOSE|EAI_|ENOTFOUND|HPE_)/.test(code) || /aborted|no byte/.test(String(thrown)))
    return new AppError("STORAGE_UNAVAILABLE", `${file.url.href}: ${(thrown as Error).message}`, { cause: thrown });
  return asAppError(thrown);
}
