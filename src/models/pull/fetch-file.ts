import { copyFile, mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { allDone } from "../../lib/all-done.ts";
import { backoffDelayMs, sleep, type BackoffPolicy, type Sleep } from "../../lib/backoff.ts";
import { parseHttpDate } from "../../lib/http-date.ts";
import { sha256File, type FileDigest } from "../../lib/sha256-file.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import { httpGet, type Answer, type GetOptions } from "./http-get.ts";
import { PartialFile, removePartial } from "./partial-file.ts";
import { PrefixDigest } from "./prefix-digest.ts";
import { parseContentRange, type Range } from "./ranges.ts";
import { refusal, type RemoteFile } from "./remote-files.ts";

export interface FetchOptions {
  readonly lanes: number;
  readonly pieceBytes: number;
  /** No byte for so long ends a connection, ms. */
  readonly stallMs: number;
  /** Tries of a piece in a row that bring nothing. */
  readonly tries: number;
  readonly agent?: GetOptions["agent"];
  readonly signal?: AbortSignal;
  readonly sleep?: Sleep;
  /** Bytes that are there now of the file, and all of them. */
  readonly onBytes?: (done: number, size: number) => void;
  /** A try that failed and is repeated. */
  readonly onTrouble?: (text: string) => void;
}

const RETRY: BackoffPolicy = { firstMs: 500, maxMs: 30_000, factor: 2, jitter: 0.3 };
/** From this size on a thread of its own takes the digest. */
const BESIDE_BYTES = 64 * 2 ** 20;
/** So many are written at a time. */
const WRITE_BYTES = 2 ** 20;
/** A try that brought so many got further. */
const PROGRESS_BYTES = 16 * 1024;
/** As often a piece under way is noted: so much is fetched again after a kill, by each lane. */
const NOTE_BYTES = 4 * 2 ** 20;
const MAX_RETRY_AFTER_MS = 300_000;

/** What a server says of a file before it is fetched. */
interface Facts {
  readonly size: number;
  /** Same text, same content; a digest or an ETag, or nothing but the size. */
  readonly identity: string;
  readonly etag: string | null;
  readonly sha256: string | null;
  readonly ranges: boolean;
}

/**
 * A file under `path`, which has its name only once it is whole, of the right digest, and on the disk. Comes in pieces beside each other where the
 * server gives ranges. What is there of an earlier try is not fetched again.
 * @throws AppError STORAGE_UNAVAILABLE | STORAGE_REJECTED | MODEL_NOT_FOUND, MODEL_CORRUPT for another content than `file` says, also at the second try
 */
export async function fetchFile(file: RemoteFile, path: string, options: FetchOptions): Promise<FileDigest> {
  await mkdir(dirname(path), { recursive: true });
  for (let round = 1; ; round++) {
    const found = file.url.protocol === "file:" ? await copyLocal(file, path, options) : await download(file, path, options);
    if (typeof found !== "string") return found;
    await removePartial(path);
    if (round === 2)
      throw new AppError(
        "MODEL_CORRUPT",
        `${file.url.href} ${found}: another version than expected, or damaged on the way; it was fetched twice`,
      );
    options.onTrouble?.(`${file.to}: ${found}; it is fetched again`);
  }
}

/** What is wrong with the content, as a text. */
async function download(file: RemoteFile, path: string, options: FetchOptions): Promise<FileDigest | string> {
  const facts = await tried(file, options, () => ask(file, options));
  if (file.sizeBytes !== null && file.sizeBytes !== facts.size) return `has ${facts.size} bytes, expected ${file.sizeBytes}`;
  await using partial = await PartialFile.open(path, facts.identity, facts.size);
  // Of a large file beside the download, of a small one afterwards.
  await using beside = facts.size >= BESIDE_BYTES && facts.ranges ? new PrefixDigest(partial.path) : null;
  if (facts.ranges) await fetchPieces(file, facts, partial, options, () => beside?.grown(partial.prefixBytes));
  else await fetchWhole(file, partial, options);
  const digest =
    beside === null
      ? await sha256File(partial.path, options.signal === undefined ? {} : { signal: options.signal })
      : { sha256: await beside.finish(facts.size), sizeBytes: facts.size };
  const expected = file.sha256 ?? facts.sha256;
  if (digest.sizeBytes !== facts.size) return `came as ${digest.sizeBytes} bytes of ${facts.size}`;
  if (expected !== null && digest.sha256 !== expected) return `has the sha256 ${digest.sha256}, expected ${expected}`;
  await partial.finish();
  return digest;
}

async function copyLocal(file: RemoteFile, path: string, options: FetchOptions): Promise<FileDigest | string> {
  const source = fileURLToPath(file.url);
  const { size } = await stat(source);
  await using partial = await PartialFile.open(path, `copy of ${source}`, size);
  await copyFile(source, partial.path);
  const digest = await sha256File(partial.path, options.signal === undefined ? {} : { signal: options.signal });
  if (file.sizeBytes !== null && digest.sizeBytes !== file.sizeBytes) return `has ${digest.sizeBytes} bytes, expected ${file.sizeBytes}`;
  if (file.sha256 !== null && digest.sha256 !== file.sha256) return `has the sha256 ${digest.sha256}, expected ${file.sha256}`;
  options.onBytes?.(size, size);
  await partial.finish();
  return digest;
}

/** The first byte, for what comes with it: size, identity, and whether there are ranges. */
async function ask(file: RemoteFile, options: FetchOptions): Promise<Facts> {
  const answer = await get(file, options, { start: 0, end: 1 });
  answer.body.destroy();
  const range = parseContentRange(answer.headers["content-range"]);
  const isEmpty = answer.status === 416 && answer.headers["content-range"] === "bytes */0";
  if (answer.status === 206 ? range === null : answer.status !== 200 && !isEmpty) throw failed(file, answer);
  const linked = answer.redirectedWith.map((headers) => headers["x-linked-etag"]).find((value) => typeof value === "string");
  const sha256 = /^"?([0-9a-f]{64})"?$/.exec(linked ?? "")?.[1] ?? null;
  const etag = answer.headers.etag?.startsWith('"') === true ? answer.headers.etag : null;
  const size = isEmpty ? 0 : (range?.size ?? Number(answer.headers["content-length"] ?? NaN));
  if (!Number.isSafeInteger(size)) throw new AppError("STORAGE_UNAVAILABLE", `${answer.url.href} does not say how long ${file.from} is`);
  return { size, identity: file.sha256 ?? sha256 ?? etag ?? `size ${size}`, etag, sha256, ranges: answer.status === 206 };
}

async function fetchPieces(
  file: RemoteFile,
  facts: Facts,
  partial: PartialFile,
  options: FetchOptions,
  onGrown: () => void,
): Promise<void> {
  const pieces = partial.missing(options.pieceBytes).values();
  let done = partial.doneBytes;
  options.onBytes?.(done, partial.size);
  let failed = false;
  const lane = async (): Promise<void> => {
    for (const piece of pieces) {
      // Another lane has given up: what is under way is kept, and nothing new begins.
      if (failed) return;
      await fetchPiece(file, facts, piece, partial, {
        ...options,
        onBytes: (more) => {
          options.onBytes?.((done += more), partial.size);
          onGrown();
        },
      }).catch((thrown: unknown) => {
        failed = true;
        throw thrown;
      });
    }
  };
  await allDone(Array.from({ length: options.lanes }, lane));
}

/** One piece, in as many tries as it takes while each brings some bytes. */
async function fetchPiece(
  file: RemoteFile,
  facts: Facts,
  piece: Range,
  partial: PartialFile,
  options: Omit<FetchOptions, "onBytes"> & { readonly onBytes: (more: number) => void },
): Promise<void> {
  let at = piece.start;
  await tried(
    file,
    options,
    async () => {
      const answer = await get(file, options, { start: at, end: piece.end }, facts.etag);
      const range = parseContentRange(answer.headers["content-range"]);
      if (answer.status !== 206 || range === null) throw failed(file, answer);
      if (range.start !== at || range.size !== partial.size) {
        answer.body.destroy();
        throw new AppError(
          "MODEL_CORRUPT",
          `${file.url.href} changed while it was fetched: ${partial.size} bytes before, ${range.size} now; pull again`,
        );
      }
      const from = at;
      let noted = at;
      try {
        for await (const { chunks, bytes } of blocks(answer.body, piece.end - at)) {
          await partial.write(chunks, at);
          at += bytes;
          options.onBytes(bytes);
          if (at - noted < NOTE_BYTES) continue;
          await partial.note({ start: noted, end: at });
          noted = at;
        }
        if (at < piece.end)
          throw new AppError(
            "STORAGE_UNAVAILABLE",
            `${file.url.href}: the connection ended after ${at - from} of ${piece.end - from} bytes`,
          );
      } finally {
        if (at > noted) await partial.note({ start: noted, end: at });
      }
    },
    () => at,
  );
}

/** From a server without ranges: one connection, from the beginning each time. */
async function fetchWhole(file: RemoteFile, partial: PartialFile, options: FetchOptions): Promise<void> {
  await tried(file, options, async () => {
    const answer = await get(file, options, null);
    if (answer.status !== 200) throw failed(file, answer);
    let at = 0;
    for await (const { chunks, bytes } of blocks(answer.body, Infinity)) {
      if (at + bytes > partial.size)
        throw new AppError("MODEL_CORRUPT", `${file.url.href} gives more than the ${partial.size} bytes that it says`);
      await partial.write(chunks, at);
      at += bytes;
      options.onBytes?.(at, partial.size);
    }
    if (at < partial.size)
      throw new AppError("STORAGE_UNAVAILABLE", `${file.url.href}: the connection ended after ${at} of ${partial.size} bytes`);
  });
}

/** A body's chunks, some of them together, up to `most` bytes in all: each write is a trip to the thread pool. A body that breaks gives what came. */
async function* blocks(
  body: AsyncIterable<Buffer>,
  most: number,
): AsyncGenerator<{ readonly chunks: readonly Buffer[]; readonly bytes: number }> {
  let [chunks, bytes, left]: [Buffer[], number, number] = [[], 0, most];
  let broken: { readonly thrown: unknown } | null = null;
  try {
    for await (const chunk of body) {
      const part = chunk.subarray(0, left);
      chunks.push(part);
      bytes += part.length;
      left -= part.length;
      if (bytes < WRITE_BYTES) continue;
      yield { chunks, bytes };
      [chunks, bytes] = [[], 0];
    }
  } catch (thrown) {
    broken = { thrown };
  }
  if (bytes > 0) yield { chunks, bytes };
  if (broken !== null) throw broken.thrown;
}

function get(
  file: RemoteFile,
  { stallMs, agent, signal }: FetchOptions | Omit<FetchOptions, "onBytes">,
  range: Range | null,
  etag: string | null = null,
): Promise<Answer> {
  return httpGet(file.url, {
    stallMs,
    ...(agent !== undefined && { agent }),
    ...(signal !== undefined && { signal }),
    headers: {
      ...(range !== null && { range: `bytes=${range.start}-${range.end - 1}` }),
      ...(range !== null && etag !== null && { "if-range": etag }),
      ...(file.authorization !== undefined && { authorization: file.authorization }),
    },
  });
}

/** An answer that is no file, as an error; what may pass has `retryAfterMs`. */
function failed(file: RemoteFile, { status, headers, url, body }: Answer): AppError {
  body.destroy();
  const page = new URL(file.url.pathname.split("/resolve/")[0] ?? "/", file.url).href;
  const refused = url.origin === file.url.origin ? refusal(status, file.url.href, page, file.authorization ?? null) : null;
  if (refused !== null) return refused;
  if (status === 200)
    return new AppError("MODEL_CORRUPT", `${file.url.href} changed while it was fetched, or gives no ranges any more; pull again`);
  const seconds = /^\d+$/.test(headers["retry-after"] ?? "") ? Number(headers["retry-after"]) * 1000 : null;
  const until = parseHttpDate(headers["retry-after"] ?? "");
  const retryAfterMs = seconds ?? (until === null ? undefined : Math.max(0, until - Date.now()));
  const isPassing = status === 408 || status === 425 || status === 429 || status >= 500 || url.origin !== file.url.origin;
  return new AppError(
    isPassing ? "STORAGE_UNAVAILABLE" : "STORAGE_REJECTED",
    `${url.href} answers ${status}`,
    retryAfterMs === undefined ? {} : { retryAfterMs },
  );
}

/** Repeats what failed for the moment, waiting longer each time; a try that got further counts from the first again. */
async function tried<T>(
  file: RemoteFile,
  options: Omit<FetchOptions, "onBytes">,
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
