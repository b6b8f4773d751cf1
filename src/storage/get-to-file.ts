import { errnoOf, isNoSpace } from "../lib/errno.ts";
import { saveStream } from "../lib/save-stream.ts";
import type { FileDigest } from "../lib/sha256-file.ts";
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
  const { maxBytes, sha256, signal } = options;
  try {
    const check = (read: FileDigest): void => checkRead(store, key, read, head, sha256);
    await saveStream(object.body, path, { maxBytes, tooLarge, check, ...(signal !== undefined && { signal }) });
    return head;
  } catch (thrown) {
    signal?.throwIfAborted();
    throw asDownloadError(store, key, path, thrown);
  }
}

function checkRead(store: ObjectStore, key: string, read: FileDigest, head: ObjectHead, expectedSha256: string | undefined): void {
  if (read.sizeBytes !== head.sizeBytes) {
    throw new AppError("STORAGE_UNAVAILABLE", `${store.label} sent ${read.sizeBytes} of ${head.sizeBytes} bytes of ${key}`);
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
