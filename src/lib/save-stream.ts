import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { Transform, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { FileDigest } from "./sha256-file.ts";
import { partialPath } from "./write-atomic.ts";

export interface SaveOptions {
  readonly maxBytes?: number;
  /** What is thrown for more than `maxBytes`. */
  readonly tooLarge?: () => Error;
  /** Looks at what was read before the file appears; what it throws is thrown. */
  readonly check?: (read: FileDigest) => void;
  /** Permissions of the file. */
  readonly mode?: number;
  readonly signal?: AbortSignal;
}

/** Writes a stream into a file, which appears only when it is whole. @throws what the stream, the file system or the options throw */
export async function saveStream(source: Readable, path: string, options: SaveOptions = {}): Promise<FileDigest> {
  const { maxBytes = Infinity, check, mode, signal } = options;
  const tooLarge = options.tooLarge ?? ((): Error => new RangeError(`${path} would get more than ${maxBytes} bytes`));
  const partial = partialPath(path);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sizeBytes += chunk.length;
      hash.update(chunk);
      if (sizeBytes > maxBytes) done(tooLarge());
      else done(null, chunk);
    },
  });
  try {
    const file = createWriteStream(partial, { flags: "wx", ...(mode !== undefined && { mode }) });
    await pipeline(source, meter, file, signal === undefined ? {} : { signal });
    const read = { sizeBytes, sha256: hash.digest("hex") };
    check?.(read);
    await rename(partial, path);
    return read;
  } catch (thrown) {
    await rm(partial, { force: true });
    throw thrown;
  }
}
