import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { errnoOf, isNoSpace } from "../lib/errno.ts";
import { partialPath } from "../lib/write-atomic.ts";
import { AppError } from "../protocol/error.ts";
import type { GetToFileOptions, ObjectHead, ObjectStore } from "./object-store.ts";

/** `ObjectStore.getToFile` over `get`, the same for every store. */
export async function getToFile(store: ObjectStore, key: string, path: string, options: GetToFileOptions): Promise<ObjectHead> {
  const object = await store.get(key, options.signal === undefined ? {} : { signal: options.signal });
  if (object === null) throw new AppError("INPUT_MISSING", `${store.label} has no object ${key}`);
  const { head } = object;
  const tooLarge = (): AppError => new AppError("INPUT_TOO_LARGE", `object ${key} has more than the allowed ${options.maxBytes} bytes`);
  if (head.sizeBytes > options.maxBytes) {
    object.body.destroy();
    throw tooLarge();
  }
  const hash = createHash("sha256");
  let readBytes = 0;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      readBytes += chunk.length;
      hash.update(chunk);
      if (readBytes > options.maxBytes) done(tooLarge());
      else done(null, chunk);
    },
  });
  const partial = partialPath(path);
  try {
    await pipeline(
      object.body,
      meter,
      createWriteStream(partial, { flags: "wx" }),
      options.signal === undefined ? {} : { signal: options.signal },
    );
    checkRead(store, key, { readBytes, sha256: hash.digest("hex") }, head, options.sha256);
    await rename(partial, path);
    return head;
  } catch (thrown) {
    await rm(partial, { force: true });
    options.signal?.throwIfAborted();
    throw asDownloadError(store, key, path, thrown);
  }
}

function checkRead(
  store: ObjectStore,
  key: string,
  read: { readonly readBytes: number; readonly sha256: string },
  head: ObjectHead,
  expectedSha256: string | undefined,
): void {
  if (read.readBytes !== head.sizeBytes) {
    throw new AppError("STORAGE_UNAVAILABLE", `${store.label} sent ${read.readBytes} of ${head.sizeBytes} bytes of ${key}`);
  }
  if (expectedSha256 !== undefined && read.sha256 !== expectedSha256) {
    throw new AppError(
      "STORAGE_UNAVAILABLE",
      `${store.label} sent ${key} with sha256 ${read.sha256}, expected ${expectedSha256}: the stored bytes are damaged`,
    );
  }
}

function asDownloadError(store: ObjectStore, key: string, path: string, thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const cause = thrown;
  if (isNoSpace(thrown))
    return new AppError("SPOOL_FULL", `no space left for ${path}: free some on that disk`, {
      cause,
    });
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  if (["EACCES", "EROFS", "ENOENT", "ENOTDIR", "EPERM"].includes(errnoOf(thrown) ?? "")) {
    return new AppError("INTERNAL", `cannot write ${path}: ${text}`, { cause });
  }
  return new AppError("STORAGE_UNAVAILABLE", `${store.label}: reading ${key} broke off: ${text}`, {
    cause,
  });
}
