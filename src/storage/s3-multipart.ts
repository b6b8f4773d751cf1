import type { FileHandle } from "node:fs/promises";
import type { S3Client } from "@aws-sdk/client-s3";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { AppError } from "../protocol/error.ts";
import { s3Status } from "./s3-error.ts";

export interface MultipartOptions {
  readonly client: S3Client;
  readonly file: FileHandle;
  readonly sizeBytes: number;
  readonly target: { readonly Bucket: string; readonly Key: string };
  readonly headers: { readonly ContentType: string; readonly Metadata: Record<string, string> };
  readonly partSizeBytes: number;
  /** Parts in flight. Memory = lanes * partSizeBytes. */
  readonly lanes: number;
  readonly signal: AbortSignal | undefined;
}

interface UploadedPart {
  readonly PartNumber: number;
  readonly ETag: string;
}

/** An upload that was given up is cleaned away even if its caller is in a hurry. */
const CLEAN_UP_TIMEOUT_MS = 15_000;

/**
 * Uploads a file in parts, read by position into one buffer per lane. Own code instead of lib-storage's Upload, because that one does not pass its abort signal to parts
 * in flight, rejects before they have stopped (so that parts arrive after the clean-up) and goes on reading the file after a part failed.
 * Here every part has stopped before the upload is aborted on the server, and that is awaited.
 * Each part is a Buffer: retried by the client, its sha256 signed and so checked by the server.
 */
export async function uploadParts(options: MultipartOptions): Promise<void> {
  const { client, target } = options;
  const send = options.signal === undefined ? {} : { abortSignal: options.signal };
  const UploadId = await createUpload(options);
  try {
    options.signal?.throwIfAborted();
    const parts = await sendParts(options, UploadId);
    await client.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts: parts } }), send);
  } catch (thrown) {
    const cleanUp = new AbortMultipartUploadCommand({ ...target, UploadId });
    // Best effort: what stays behind is invisible, and a lifecycle rule of the bucket removes it.
    await client.send(cleanUp, { abortSignal: AbortSignal.timeout(CLEAN_UP_TIMEOUT_MS) }).catch(() => undefined);
    throw thrown;
  }
}

/**
 * Not cut off by the caller's abort at once: the server may have begun the upload, and only its answer says which one to clean away.
 * It gets some seconds more to give it.
 */
async function createUpload(options: MultipartOptions): Promise<string> {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => late.abort(), CLEAN_UP_TIMEOUT_MS);
  };
  options.signal?.throwIfAborted();
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const command = new CreateMultipartUploadCommand({ ...options.target, ...options.headers });
    const { UploadId } = await options.client.send(command, { abortSignal: late.signal });
    if (UploadId !== undefined) return UploadId;
    throw new AppError("STORAGE_UNAVAILABLE", `multipart upload of ${options.target.Key}: the server answered without an upload id`);
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
    clearTimeout(timer);
  }
}

async function sendParts(options: MultipartOptions, uploadId: string): Promise<UploadedPart[]> {
  const count = Math.ceil(options.sizeBytes / options.partSizeBytes);
  const numbers = Array.from({ length: count }, (_, index) => index + 1).values();
  const parts: UploadedPart[] = [];
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const lane = async (): Promise<void> => {
    const buffer = Buffer.allocUnsafeSlow(Math.min(options.partSizeBytes, options.sizeBytes));
    // The iterator is shared: each lane takes the next number.
    for (const number of numbers) {
      signal.throwIfAborted();
      parts.push(await sendPart({ ...options, signal }, uploadId, number, buffer));
    }
  };
  const lanes = Array.from({ length: Math.min(options.lanes, count) }, () =>
    lane().catch((thrown: unknown) => {
      stop.abort(thrown);
      throw thrown;
    }),
  );
  await Promise.allSettled(lanes);
  // The first failure is the cause of the others.
  signal.throwIfAborted();
  return parts.toSorted((a, b) => a.PartNumber - b.PartNumber);
}

async function sendPart(
  options: MultipartOptions & { readonly signal: AbortSignal },
  uploadId: string,
  number: number,
  buffer: Buffer,
): Promise<UploadedPart> {
  const start = (number - 1) * options.partSizeBytes;
  const body = await readAt(options.file, buffer, start, Math.min(options.partSizeBytes, options.sizeBytes - start));
  const part = { ...options.target, UploadId: uploadId, PartNumber: number, Body: body, ContentLength: body.length };
  const { ETag } = await options.client.send(new UploadPartCommand(part), { abortSignal: options.signal });
  if (ETag === undefined)
    throw new AppError("STORAGE_UNAVAILABLE", `part ${number} of ${options.target.Key}: the server answered without an ETag`);
  return { PartNumber: number, ETag };
}

/** Exactly `length` bytes from `start`. @throws AppError BAD_OUTPUT when the file has become shorter */
export async function readAt(file: FileHandle, buffer: Buffer, start: number, length: number): Promise<Buffer> {
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, start + filled);
    if (bytesRead === 0)
      throw new AppError("BAD_OUTPUT", `the file ended at byte ${start + filled} while it was uploaded, expected ${start + length}`);
    filled += bytesRead;
  }
  return buffer.subarray(0, length);
}

/**
 * Aborts the uploads below a prefix that were begun before `before` (unix ms, the server's clock): their parts are invisible and are paid
 * for. Returns how many.
 */
export async function abortOldUploads(options: {
  readonly client: S3Client;
  readonly bucket: string;
  readonly prefix: string;
  readonly before: number;
  readonly signal: AbortSignal | undefined;
}): Promise<number> {
  const { client, bucket: Bucket, prefix: Prefix, before, signal } = options;
  const send = signal === undefined ? {} : { abortSignal: signal };
  let aborted = 0;
  let marker: { readonly KeyMarker?: string; readonly UploadIdMarker?: string } = {};
  do {
    const page = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix, ...marker }), send);
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || Initiated === undefined || Initiated.getTime() >= before) continue;
      await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId }), send).catch((thrown: unknown) => {
        // It ended meanwhile.
        if (s3Status(thrown) !== 404) throw thrown;
      });
      aborted += 1;
    }
    const { IsTruncated, NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = page;
    marker = IsTruncated === true && KeyMarker && UploadIdMarker ? { KeyMarker, UploadIdMarker } : {};
  } while (marker.KeyMarker !== undefined);
  return aborted;
}
