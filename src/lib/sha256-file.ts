import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

export interface FileDigest {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

export interface Sha256Options {
  readonly signal?: AbortSignal;
  /** How long the file is, if known: a short one gets a short buffer, since buffers of this size are what the garbage collector runs for. */
  readonly expectedBytes?: number;
  /** Called with the bytes hashed so far, about once per 256 KiB. */
  readonly onProgress?: (doneBytes: number) => void;
}

/** A chunk is hashed synchronously: 256 KiB keep the event loop free (about 0.2 to 0.6 ms each). */
const CHUNK_BYTES = 256 * 1024;

/** Hashes a file as a stream. Rejects with the file system's error, or with `signal.reason`. */
export async function sha256File(path: string, options: Sha256Options = {}): Promise<FileDigest> {
  options.signal?.throwIfAborted();
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: Math.min(CHUNK_BYTES, (options.expectedBytes ?? CHUNK_BYTES) + 1) })) {
    options.signal?.throwIfAborted();
    hash.update(chunk as Buffer);
    sizeBytes += (chunk as Buffer).length;
    options.onProgress?.(sizeBytes);
  }
  return { sha256: hash.digest("hex"), sizeBytes };
}
