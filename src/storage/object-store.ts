import type { Readable } from "node:stream";
import { AppError } from "../protocol/error.ts";

/**
 * Where inputs and outputs live. Two implementations, `file:` and `s3:`, held to one conformance suite
 * (test/conformance/object-store.test.ts).
 *
 * Failures are AppErrors of three kinds, so that a caller can tell what waiting helps against:
 *   STORAGE_UNAVAILABLE  no answer, 5xx, throttled, time-out, disk full: the same call may succeed later
 *   STORAGE_REJECTED     credentials, permissions, missing bucket, refused request: somebody has to act
 *   INVALID_INPUT        the key or range itself is not allowed
 * An aborted call rejects with its `signal.reason`. Nothing of an aborted or failed `put` stays visible.
 */
export interface ObjectStore extends AsyncDisposable {
  /** For logs and error messages; holds no secret. */
  readonly label: string;
  /**
   * Uploads a file. The object is visible only when whole; after the upload its size is read back and compared.
   * @throws AppError BAD_OUTPUT when the file on disk is not there or not `sizeBytes` long
   */
  put(key: string, filePath: string, options: PutOptions): Promise<ObjectHead>;
  /** Opens an object, null when there is none. The body must be read or destroyed; its errors are the transport's own. */
  get(key: string, options?: GetOptions): Promise<StoredObject | null>;
  /**
   * Downloads to a file that appears at `path` only when whole.
   * @throws AppError INPUT_MISSING | INPUT_TOO_LARGE | STORAGE_UNAVAILABLE (also when `sha256` differs) | SPOOL_FULL
   */
  getToFile(key: string, path: string, options: GetToFileOptions): Promise<ObjectHead>;
  head(key: string, options?: CallOptions): Promise<ObjectHead | null>;
  /** Deleting what is not there is no error. */
  delete(key: string, options?: CallOptions): Promise<void>;
  /** Deletes all objects whose key starts with `prefix`; returns how many. An empty prefix is refused. */
  deletePrefix(prefix: string, options?: CallOptions): Promise<number>;
  /** All objects whose key starts with `prefix`, in the order of their keys' UTF-8 bytes. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject>;
  /**
   * Takes away what uploads left that never came to an end (a crash, a power cut) and that nothing has touched since `before`, by the
   * store's own clock. Returns how many there were.
   */
  removeUnfinished(before: number, options?: CallOptions): Promise<number>;
  /** The store's own rules for old objects; null where there is no such thing (`file:`). */
  readLifecycle(options?: CallOptions): Promise<StoreLifecycle | null>;
  /** A link that anyone may GET (or HEAD) until it expires (at most 7 days), or null where the store cannot make one (`file:`). */
  presign(key: string, options: PresignOptions): Promise<string | null>;
  /** Proves that an object can be written, read and deleted. Leaves nothing. */
  check(options?: CallOptions): Promise<void>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface ListOptions extends CallOptions {
  /** Only keys behind this one; it need not exist. */
  readonly after?: string;
}

export interface PutOptions extends CallOptions {
  readonly contentType: string;
  /** Lower-case hex of the whole file, stored with the object. Taken before the upload by whoever made the file. */
  readonly sha256: string;
  readonly sizeBytes: number;
  /** Small texts kept with the object; any Unicode, names of a-z 0-9 and dashes. At most 1 KiB in all. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Byte positions, both inclusive as in HTTP; without `end` to the last byte. */
export interface ByteRange {
  readonly start: number;
  readonly end?: number;
}

export interface GetOptions extends CallOptions {
  readonly range?: ByteRange;
}

export interface GetToFileOptions extends CallOptions {
  /** A larger object is refused before and while it is read. */
  readonly maxBytes: number;
  readonly sha256?: string;
}

export interface PresignOptions {
  readonly expiresInMs: number;
  /** File name that a browser saves it under; any Unicode. */
  readonly downloadName?: string;
  /** The one method that the link is good for. Default GET. */
  readonly method?: "GET" | "HEAD";
}

export interface ObjectHead {
  /** Of the whole object, also when a range was asked for. */
  readonly sizeBytes: number;
  readonly contentType: string;
  /** As given to `put`; absent on objects that others wrote. */
  readonly sha256?: string;
  /** Changes when the content does. Quoted as in HTTP. */
  readonly etag: string;
  readonly metadata: Readonly<Record<string, string>>;
}

export interface StoredObject {
  readonly head: ObjectHead;
  /** Bytes in `body`. */
  readonly bodyBytes: number;
  readonly body: Readable;
}

export interface ListedObject {
  readonly key: string;
  readonly sizeBytes: number;
  /** Unix milliseconds by the store's clock, which `storeNow` reads. */
  readonly modifiedAt: number;
}

/** What a bucket does with old objects by itself. `rules` is null where the server does not tell, and `why` says what it answered. */
export interface StoreLifecycle {
  readonly bucket: string;
  /** Of the store in the bucket: empty, or with a slash at its end. */
  readonly prefix: string;
  readonly rules: readonly ExpiryRule[] | null;
  readonly why?: string;
}

/** A rule that holds for every key with the prefix. */
export interface ExpiryRule {
  readonly prefix: string;
  readonly expireDays: number | null;
  readonly abortUploadsDays: number | null;
}

/** What a URL cannot or should not hold. Only the `s3:` store reads it. */
export interface ObjectStoreOptions {
  /** Explicit keys; without them the AWS chain is used: environment, profile, IRSA, Pod Identity, instance metadata. */
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
  /** These three win over the URL's query. */
  readonly endpoint?: string;
  readonly region?: string;
  readonly forcePathStyle?: boolean;
  /** Base of presigned links when clients reach the store under another name than this machine does. */
  readonly publicEndpoint?: string;
  /** Until the connection stands. Default 5 s. */
  readonly connectTimeoutMs?: number;
  /** Until a whole request (at most one part) is answered. Default 120 s. */
  readonly requestTimeoutMs?: number;
  /** Longest silence on a socket, also while a body streams. Default 30 s. */
  readonly idleTimeoutMs?: number;
  /** Tries per request inside the client, before the caller's own retries. Default 3. */
  readonly maxAttempts?: number;
  /** Files above one part go up in parts; memory is `partLanes` * `partSizeBytes` per upload. Defaults 4 and 5 MiB: hashing one part must not hold up the event loop. */
  readonly partSizeBytes?: number;
  readonly partLanes?: number;
}

/**
 * Opens the store that a URL names:
 *   file:///absolute/folder
 *   s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1&forcePathStyle=1&publicEndpoint=https://files.example.org
 * The implementation is imported only when used: a `file:` store pays nothing for the S3 client. Opening does no network I/O.
 * @throws AppError CONFIG_INVALID that names the part of the URL
 */
export async function openObjectStore(url: string, options: ObjectStoreOptions = {}): Promise<ObjectStore> {
  if (!URL.canParse(url)) {
    throw new AppError(
      "CONFIG_INVALID",
      "object store URL is not a URL; expected file:///absolute/folder or s3://bucket/prefix?endpoint=...",
    );
  }
  const parsed = new URL(url);
  if (parsed.protocol === "file:") return (await import("./file-store.ts")).openFileStore(parsed);
  if (parsed.protocol === "s3:") return (await import("./s3-store.ts")).openS3Store(parsed, options);
  throw new AppError("CONFIG_INVALID", `object store URL has scheme ${parsed.protocol}, expected file: or s3:`);
}
