import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type GetObjectCommandOutput,
  type HeadObjectCommandOutput,
} from "@aws-sdk/client-s3";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { AppError } from "../protocol/error.ts";
import { checkStore } from "./check-store.ts";
import { contentDisposition } from "./content-disposition.ts";
import { getToFile } from "./get-to-file.ts";
import { decodeMetadata, encodeMetadata } from "./object-metadata.ts";
import { checkKey, checkPrefix } from "./object-key.ts";
import { openSource } from "./open-source.ts";
import type {
  CallOptions,
  GetOptions,
  GetToFileOptions,
  ListedObject,
  ListOptions,
  ObjectHead,
  ObjectStore,
  ObjectStoreOptions,
  PresignOptions,
  PutOptions,
  StoredObject,
  StoreLifecycle,
} from "./object-store.ts";
import { checkRange } from "./byte-range.ts";
import { parseS3Config, planPartSize, type S3Config } from "./s3-config.ts";
import { asStorageError, isNoSuchKey, s3Status } from "./s3-error.ts";
import { readLifecycle } from "./s3-lifecycle.ts";
import { abortOldUploads, readAt, uploadParts } from "./s3-multipart.ts";

const MAX_PRESIGN_MS = 7 * 24 * 3_600_000;
const DELETE_LANES = 8;
const CLEAN_UP_TIMEOUT_MS = 15_000;

/** See `openObjectStore`. Does no network I/O. @throws AppError CONFIG_INVALID */
export function openS3Store(url: URL, options: ObjectStoreOptions): ObjectStore {
  const config = parseS3Config(url, options);
  const client = openClient(config, options, config.endpoint);
  // Presigning is local: the second client never opens a socket.
  const signer = config.publicEndpoint === undefined ? client : openClient(config, options, config.publicEndpoint);
  return new S3Store(config, client, signer);
}

function openClient(config: S3Config, options: ObjectStoreOptions, endpoint: string | undefined): S3Client {
  return new S3Client({
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(config.region === undefined ? {} : { region: config.region }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
    forcePathStyle: config.forcePathStyle,
    maxAttempts: config.maxAttempts,
    // Since 3.729 the client adds CRC32 trailers that many other servers refuse, and a checksum of nothing to presigned links.
    ...(endpoint === undefined
      ? {}
      : { requestChecksumCalculation: "WHEN_REQUIRED" as const, responseChecksumValidation: "WHEN_REQUIRED" as const }),
    requestHandler: {
      connectionTimeout: config.connectTimeoutMs,
      requestTimeout: config.requestTimeoutMs,
      socketTimeout: config.idleTimeoutMs,
      // Without it a request over its time is only logged.
      throwOnRequestTimeout: true,
    },
  });
}

class S3Store implements ObjectStore {
  readonly label: string;
  readonly #config: S3Config;
  readonly #client: S3Client;
  readonly #signer: S3Client;

  constructor(config: S3Config, client: S3Client, signer: S3Client) {
    this.#config = config;
    this.#client = client;
    this.#signer = signer;
    this.label = `s3://${config.bucket}/${config.prefix}${config.endpoint === undefined ? "" : ` at ${config.endpoint}`}`;
  }

  async put(key: string, filePath: string, options: PutOptions): Promise<ObjectHead> {
    const target = this.#target(key);
    options.signal?.throwIfAborted();
    const file = await openSource(filePath, options.sizeBytes);
    try {
      await this.#upload(target, file, options);
      return await this.#verify(key, options);
    } catch (thrown) {
      // A request that was cut off may have arrived whole: nothing of it may stay.
      if (options.signal?.aborted === true) await this.#cleanUp(target);
      throw this.#failure("put", target.Key, thrown, options.signal);
    } finally {
      await file.close();
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | null> {
    const target = this.#target(key);
    const range = options.range === undefined ? {} : { Range: checkRange(options.range) };
    let output: GetObjectCommandOutput;
    try {
      output = await this.#client.send(new GetObjectCommand({ ...target, ...range }), abortable(options.signal));
    } catch (thrown) {
      if (isNoSuchKey(thrown)) return null;
      if (s3Status(thrown) === 416)
        throw new AppError("INVALID_INPUT", `byte range of ${key} starts at ${options.range?.start}, behind the object's end`, {
          cause: thrown,
        });
      throw this.#failure("get", target.Key, thrown, options.signal);
    }
    if (!(output.Body instanceof Readable)) throw new AppError("INTERNAL", "the S3 client gave no Node stream; this is a bug");
    const bodyBytes = output.ContentLength ?? 0;
    const total = output.ContentRange?.split("/").at(-1);
    return { head: asHead(output, total === undefined ? bodyBytes : Number(total)), bodyBytes, body: output.Body };
  }

  async getToFile(key: string, path: string, options: GetToFileOptions): Promise<ObjectHead> {
    return getToFile(this, key, path, options);
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectHead | null> {
    const target = this.#target(key);
    try {
      const output = await this.#client.send(new HeadObjectCommand(target), abortable(options.signal));
      return asHead(output, output.ContentLength ?? 0);
    } catch (thrown) {
      if (isNoSuchKey(thrown)) return null;
      throw this.#failure("head", target.Key, thrown, options.signal);
    }
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    const target = this.#target(key);
    try {
      await this.#client.send(new DeleteObjectCommand(target), abortable(options.signal));
    } catch (thrown) {
      if (!isNoSuchKey(thrown)) throw this.#failure("delete", target.Key, thrown, options.signal);
    }
  }

  /** One request per object: DeleteObjects needs checksum headers on which servers differ. */
  async deletePrefix(prefix: string, options: CallOptions = {}): Promise<number> {
    if (prefix === "") throw new AppError("INVALID_INPUT", "deletePrefix: an empty prefix would delete everything");
    let deleted = 0;
    let batch: string[] = [];
    const flush = async (): Promise<void> => {
      await Promise.all(batch.map((key) => this.delete(key, options)));
      deleted += batch.length;
      batch = [];
    };
    for await (const { key } of this.list(prefix, options)) {
      batch.push(key);
      if (batch.length === DELETE_LANES) await flush();
    }
    await flush();
    return deleted;
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<ListedObject> {
    const { bucket, prefix: root } = this.#config;
    const Prefix = root + checkPrefix(prefix);
    const start = options.after === undefined ? {} : { StartAfter: root + options.after };
    let token: string | undefined;
    do {
      const page = { Bucket: bucket, Prefix, ...(token === undefined ? start : { ContinuationToken: token }) };
      const output = await this.#client.send(new ListObjectsV2Command(page), abortable(options.signal)).catch((thrown: unknown) => {
        throw this.#failure("list", Prefix, thrown, options.signal);
      });
      for (const { Key, Size, LastModified } of output.Contents ?? []) {
        if (Key !== undefined) yield { key: Key.slice(root.length), sizeBytes: Size ?? 0, modifiedAt: LastModified?.getTime() ?? 0 };
      }
      token = output.NextContinuationToken;
    } while (token !== undefined);
  }

  async removeUnfinished(before: number, options: CallOptions = {}): Promise<number> {
    const { bucket, prefix } = this.#config;
    try {
      return await abortOldUploads({ client: this.#client, bucket, prefix, before, signal: options.signal });
    } catch (thrown) {
      throw this.#failure("remove unfinished uploads from", prefix, thrown, options.signal);
    }
  }

  async readLifecycle(options: CallOptions = {}): Promise<StoreLifecycle> {
    return readLifecycle(this.#client, this.#config, options.signal);
  }

  async presign(key: string, options: PresignOptions): Promise<string> {
    const target = this.#target(key);
    const { expiresInMs, downloadName, method = "GET" } = options;
    if (!(expiresInMs >= 1_000 && expiresInMs <= MAX_PRESIGN_MS)) {
      throw new AppError("INVALID_INPUT", `presign: a link of ${expiresInMs} ms was asked for, expected 1 s to 7 days`);
    }
    const disposition = downloadName === undefined ? {} : { ResponseContentDisposition: contentDisposition(downloadName) };
    try {
      const input = { ...target, ...disposition };
      const times = { expiresIn: Math.floor(expiresInMs / 1000) };
      if (method === "HEAD") return await getSignedUrl(this.#signer, new HeadObjectCommand(input), times);
      return await getSignedUrl(this.#signer, new GetObjectCommand(input), times);
    } catch (thrown) {
      throw this.#failure("presign", target.Key, thrown, undefined);
    }
  }

  async check(options: CallOptions = {}): Promise<void> {
    await checkStore(this, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    this.#signer.destroy();
  }

  #target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#config.bucket, Key: this.#config.prefix + checkKey(key) };
  }

  async #upload(target: { Bucket: string; Key: string }, file: FileHandle, options: PutOptions): Promise<void> {
    const { sizeBytes, signal } = options;
    const headers = { ContentType: options.contentType, Metadata: { ...encodeMetadata(options.metadata), sha256: options.sha256 } };
    const partSizeBytes = planPartSize(sizeBytes, this.#config.partSizeBytes);
    if (sizeBytes > partSizeBytes) {
      await uploadParts({ client: this.#client, file, sizeBytes, target, headers, partSizeBytes, lanes: this.#config.partLanes, signal });
      return;
    }
    // A Buffer and not a stream: the client can send it again.
    const body = await readAt(file, Buffer.allocUnsafeSlow(sizeBytes), 0, sizeBytes);
    await this.#client.send(new PutObjectCommand({ ...target, ...headers, Body: body, ContentLength: sizeBytes }), abortable(signal));
  }

  /** What counts is what the store says it holds, not that it said yes. */
  async #verify(key: string, options: PutOptions): Promise<ObjectHead> {
    const head = await this.head(key, options);
    if (head?.sizeBytes === options.sizeBytes && (head.sha256 ?? options.sha256) === options.sha256) return head;
    await this.#cleanUp(this.#target(key));
    const found = head === null ? "nothing" : `${head.sizeBytes} bytes, sha256 ${head.sha256 ?? "unknown"}`;
    throw new AppError(
      "STORAGE_UNAVAILABLE",
      `${this.label}: after the upload of ${key} (${options.sizeBytes} bytes, sha256 ${options.sha256}) it holds ${found}`,
    );
  }

  async #cleanUp(target: { Bucket: string; Key: string }): Promise<void> {
    await this.#client
      .send(new DeleteObjectCommand(target), { abortSignal: AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS) })
      .catch(() => undefined);
  }

  #failure(verb: string, key: string, thrown: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted === true) return signal.reason;
    return asStorageError(thrown, { verb, bucket: this.#config.bucket, key, endpoint: this.#config.endpoint });
  }
}

function abortable(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

function asHead(output: HeadObjectCommandOutput | GetObjectCommandOutput, sizeBytes: number): ObjectHead {
  const { sha256, ...metadata } = output.Metadata ?? {};
  return {
    sizeBytes,
    contentType: output.ContentType ?? "application/octet-stream",
    ...(sha256 === undefined ? {} : { sha256 }),
    etag: output.ETag ?? "",
    metadata: decodeMetadata(metadata),
  };
}
