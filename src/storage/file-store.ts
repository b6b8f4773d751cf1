import { constants, type BigIntStats } from "node:fs";
import { open, readFile, realpath, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { allDone } from "../lib/all-done.ts";
import { isMissing } from "../lib/errno.ts";
import { makeFolders } from "../lib/make-folders.ts";
import { partialPath, syncDir } from "../lib/write-atomic.ts";
import { AppError } from "../protocol/error.ts";
import { checkRange } from "./byte-range.ts";
import { checkStore } from "./check-store.ts";
import { asFileStoreError } from "./file-error.ts";
import { folderOf, removeEmptyFolders, walkObjects } from "./file-folders.ts";
import { copyHashed } from "./copy-hashed.ts";
import { contentTypeOf, parseFileMeta, type FileMeta } from "./file-meta.ts";
import { removeUnfinishedFiles } from "./file-unfinished.ts";
import { getToFile } from "./get-to-file.ts";
import { checkKey, checkPrefix } from "./object-key.ts";
import { decodeMetadata, encodeMetadata } from "./object-metadata.ts";
import { openSource } from "./open-source.ts";
import { whyNotMade } from "./why-not-made.ts";
import type {
  ByteRange,
  CallOptions,
  GetOptions,
  GetToFileOptions,
  ListedObject,
  ListOptions,
  ObjectHead,
  ObjectStore,
  PutOptions,
  StoredObject,
} from "./object-store.ts";

const MAX_FOLDER_TRIES = 50;

/** Opens `file:///absolute/folder`, which is made when it is not there. @throws AppError CONFIG_INVALID | STORAGE_REJECTED */
export async function openFileStore(url: URL): Promise<ObjectStore> {
  if (url.search !== "" || (url.host !== "" && url.host !== "localhost")) {
    throw new AppError("CONFIG_INVALID", `object store URL ${url.href}: expected file:///absolute/folder and nothing else`);
  }
  const path = fileURLToPath(url);
  try {
    await makeFolders(path);
    return new FileStore(await realpath(path));
  } catch (cause) {
    const why = (await whyNotMade(path)) ?? String(cause);
    // Not the setting alone: the disk may not be mounted yet, or its permissions may be wrong.
    throw new AppError(
      "STORAGE_REJECTED",
      `object store folder ${path} cannot be used: ${why}; give this user a folder that it may write there, or set DRYAPI_STORE to another`,
      { cause },
    );
  }
}

/**
 * Objects as plain files under a root: `<root>/<key>`, with `.<name>.meta` (JSON) beside each for what a file system does not keep.
 * Names that start with a dot are never keys, so sidecars and unfinished files cannot be met as objects. A key cannot be another key's folder.
 */
class FileStore implements ObjectStore {
  readonly label: string;
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
    this.label = `file store ${root}`;
  }

  async put(key: string, filePath: string, options: PutOptions): Promise<ObjectHead> {
    checkKey(key);
    options.signal?.throwIfAborted();
    const meta: FileMeta = {
      contentType: options.contentType,
      sha256: options.sha256,
      sizeBytes: options.sizeBytes,
      metadata: encodeMetadata(options.metadata),
    };
    const source = await openSource(filePath, options.sizeBytes);
    try {
      return await this.#guard({ verb: "put", key, signal: options.signal }, () => this.#write(key, source, meta, options.signal));
    } finally {
      await source.close();
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    options.signal?.throwIfAborted();
    if (options.range !== undefined) checkRange(options.range);
    return this.#guard({ verb: "get", key, signal: options.signal }, async () => {
      const opened = await this.#open(key);
      if (opened === null) return null;
      const { head, file } = opened;
      const range = clampRange(options.range, head.sizeBytes);
      if (range === null) {
        await file.close();
        throw new AppError(
          "INVALID_INPUT",
          `byte range of ${key} starts at ${options.range?.start}, the object has ${head.sizeBytes} bytes`,
        );
      }
      const bodyBytes = range.end - range.start + 1;
      if (bodyBytes === 0) {
        await file.close();
        return { head, bodyBytes, body: Readable.from([]) };
      }
      const signal = options.signal === undefined ? {} : { signal: options.signal };
      return { head, bodyBytes, body: file.createReadStream({ ...range, ...signal }) };
    });
  }

  async getToFile(key: string, path: string, options: GetToFileOptions): Promise<ObjectHead> {
    return getToFile(this, key, path, options);
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectHead | null> {
    options.signal?.throwIfAborted();
    return this.#guard({ verb: "head", key, signal: options.signal }, async () => {
      const opened = await this.#open(key);
      await opened?.file.close();
      return opened?.head ?? null;
    });
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    options.signal?.throwIfAborted();
    await this.#guard({ verb: "delete", key, signal: options.signal }, async () => {
      const folder = await folderOf(this.#root, checkKey(key), false);
      if (folder === null) return;
      await rm(join(folder, basename(key)), { force: true });
      await rm(metaPath(folder, key), { force: true });
      await removeEmptyFolders(this.#root, folder);
    });
  }

  async deletePrefix(prefix: string, options: CallOptions = {}): Promise<number> {
    if (prefix === "") throw new AppError("INVALID_INPUT", "deletePrefix: an empty prefix would delete everything");
    let deleted = 0;
    for await (const { key } of this.list(prefix, options)) {
      await this.delete(key, options);
      deleted += 1;
    }
    return deleted;
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ListedObject> {
    checkPrefix(prefix);
    try {
      for await (const object of walkObjects(this.#root, prefix, options.after ?? "")) {
        options.signal?.throwIfAborted();
        yield object;
      }
    } catch (thrown) {
      options.signal?.throwIfAborted();
      throw asFileStoreError(thrown, "list", join(this.#root, prefix));
    }
  }

  async removeUnfinished(before: number, options: CallOptions = {}): Promise<number> {
    const action = { verb: "remove unfinished uploads from", key: "", signal: options.signal };
    return this.#guard(action, () => removeUnfinishedFiles(this.#root, before, options.signal));
  }

  async readLifecycle(): Promise<null> {
    return null;
  }

  /** A file has no link of its own: the gateway serves it. */
  async presign(key: string): Promise<null> {
    checkKey(key);
    return null;
  }

  async check(options: CallOptions = {}): Promise<void> {
    await checkStore(this, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing stays open between calls.
  }

  async #write(key: string, source: FileHandle, meta: FileMeta, signal: AbortSignal | undefined): Promise<ObjectHead> {
    const { folder, partial, file } = await this.#openPartial(key);
    try {
      const found = await this.#fill(file, { key, source, meta, metaPath: metaPath(folder, key) }, signal);
      await rename(partial, join(folder, basename(key)));
      await syncDir(folder);
      return headOf(key, meta.sizeBytes, meta, found);
    } catch (thrown) {
      await rm(partial, { force: true });
      if (signal?.aborted === true) await removeEmptyFolders(this.#root, folder);
      throw thrown;
    }
  }

  /** Copies, compares and flushes; returns what the file system says of the file. Closes it. */
  async #fill(
    file: FileHandle,
    object: { readonly key: string; readonly source: FileHandle; readonly meta: FileMeta; readonly metaPath: string },
    signal: AbortSignal | undefined,
  ): Promise<BigIntStats> {
    const { key, source, meta } = object;
    try {
      const { sha256, sizeBytes } = await copyHashed(source, file, meta.sizeBytes, signal);
      if (sha256 !== meta.sha256 || sizeBytes !== meta.sizeBytes) {
        throw new AppError(
          "BAD_OUTPUT",
          `the file for ${key} has ${sizeBytes} bytes with sha256 ${sha256}, expected ${meta.sizeBytes} with ${meta.sha256}`,
        );
      }
      // The sidecar is not flushed: one that a power cut tears counts as none, and the type is told by the name.
      await allDone([file.sync(), writeFile(object.metaPath, JSON.stringify(meta))]);
      const found = await file.stat({ bigint: true });
      if (Number(found.size) === meta.sizeBytes) return found;
      throw new AppError(
        "STORAGE_UNAVAILABLE",
        `${this.label}: ${key} has ${meta.sizeBytes} bytes, after its flush it holds ${found.size}`,
      );
    } finally {
      await file.close();
    }
  }

  /** A delete next door may remove the folder between its making and its use: then once more. */
  async #openPartial(key: string): Promise<{ folder: string; partial: string; file: FileHandle }> {
    for (let tries = 0; ; tries += 1) {
      try {
        const folder = (await folderOf(this.#root, key, true)) ?? this.#root;
        const partial = partialPath(join(folder, `.${basename(key)}`));
        return { folder, partial, file: await open(partial, "wx", 0o644) };
      } catch (thrown) {
        if (!isMissing(thrown) || tries === MAX_FOLDER_TRIES) throw thrown;
      }
    }
  }

  async #open(key: string): Promise<{ head: ObjectHead; file: FileHandle } | null> {
    const folder = await folderOf(this.#root, checkKey(key), false);
    if (folder === null) return null;
    let file: FileHandle;
    try {
      file = await open(join(folder, basename(key)), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (thrown) {
      if (isMissing(thrown)) return null;
      throw thrown;
    }
    try {
      const found = await file.stat({ bigint: true });
      if (found.isFile()) return { head: await this.#head(folder, key, found), file };
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
    await file.close();
    return null;
  }

  async #head(folder: string, key: string, found: { size: bigint; mtimeNs: bigint; ino: bigint }): Promise<ObjectHead> {
    const sizeBytes = Number(found.size);
    const text = await readFile(metaPath(folder, key), "utf8").catch(() => "");
    return headOf(key, sizeBytes, parseFileMeta(text, sizeBytes), found);
  }

  async #guard<T>(
    action: { readonly verb: string; readonly key: string; readonly signal: AbortSignal | undefined },
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      return await work();
    } catch (thrown) {
      action.signal?.throwIfAborted();
      throw asFileStoreError(thrown, action.verb, join(this.#root, action.key));
    }
  }
}

function headOf(
  key: string,
  sizeBytes: number,
  meta: FileMeta | null,
  found: { readonly size: bigint; readonly mtimeNs: bigint; readonly ino: bigint },
): ObjectHead {
  return {
    sizeBytes,
    contentType: meta?.contentType ?? contentTypeOf(key),
    ...(meta === null ? {} : { sha256: meta.sha256 }),
    etag: `"${found.ino.toString(36)}-${found.mtimeNs.toString(36)}-${found.size.toString(36)}"`,
    metadata: decodeMetadata(meta?.metadata ?? {}),
  };
}

function metaPath(folder: string, key: string): string {
  return join(folder, `.${basename(key)}.meta`);
}

/** Both inclusive, inside the object; `end` is `start` - 1 for an empty object. Null when the range starts behind the end. */
function clampRange(range: ByteRange | undefined, sizeBytes: number): { readonly start: number; readonly end: number } | null {
  if (range === undefined) return { start: 0, end: sizeBytes - 1 };
  if (range.start >= sizeBytes) return null;
  return { start: range.start, end: Math.min(range.end ?? sizeBytes - 1, sizeBytes - 1) };
}
