import { copyFile, mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { allDone } from "../../lib/all-done.ts";
import { sha256File, type FileDigest } from "../../lib/sha256-file.ts";
import { AppError } from "../../protocol/error.ts";
import { blocks } from "./body-blocks.ts";
import { httpGet, type Answer, type GetOptions } from "./http-get.ts";
import { PartialFile, removePartial } from "./partial-file.ts";
import { PrefixDigest } from "./prefix-digest.ts";
import { parseContentRange, type Range } from "./ranges.ts";
import type { RemoteFile } from "./remote-files.ts";
import { failed, tried, type RetryOptions } from "./retry.ts";

export interface FetchOptions extends RetryOptions {
  readonly lanes: number;
  readonly pieceBytes: number;
  /** No byte for so long ends a connection, ms. */
  readonly stallMs: number;
  readonly agent?: GetOptions["agent"];
  /** Bytes that are there now of the file, and all of them. */
  readonly onBytes?: (done: number, size: number) => void;
}

/** From this size on a thread of its own takes the digest. */
const BESIDE_BYTES = 64 * 2 ** 20;
/** As often a piece under way is noted: so much is fetched again after a kill, by each lane. */
const NOTE_BYTES = 4 * 2 ** 20;

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
