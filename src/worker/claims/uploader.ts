import { join } from "node:path";
import { backoffDelayMs, sleep as realSleep, type BackoffPolicy, type Sleep } from "../../lib/backoff.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { AppError, asAppError } from "../../protocol/error.ts";
import type { ResultFile, SpoolFile } from "../../protocol/result.ts";
import type { ObjectStore } from "../../storage/object-store.ts";

export interface UploadRequest {
  readonly id: string;
  /** Claim number that the files are published under; not always the claim that made them. */
  readonly claim: number;
  /** Folder that holds the files. */
  readonly outDir: string;
  readonly files: readonly SpoolFile[];
  /**
   * Ends the upload: rejects with its reason. A reason LOCK_LOST or CANCELLED also takes back what was put; any other (shutdown) leaves it,
   * since the same claim goes on later.
   */
  readonly signal: AbortSignal;
}

export interface Uploader {
  /**
   * Puts the files at `outputs/<id>/<claim>/<name>` and returns when all are there, however long that takes: tries without end while the store is unavailable
   * or refuses. Files are those of `request.files`, in order.
   * @throws AppError BAD_OUTPUT (a file is missing or damaged), or the signal's reason
   */
  upload(request: UploadRequest): Promise<readonly ResultFile[]>;
  /** Takes away what claims of the job before this one left in the store, as a daemon does that dies between upload and completion. Best effort. */
  removeEarlier(id: string, claim: number): Promise<void>;
}

export interface UploadFailure {
  readonly key: string;
  /** STORAGE_UNAVAILABLE or STORAGE_REJECTED. */
  readonly error: AppError;
  /** Failed tries of this file so far, from 1. */
  readonly attempt: number;
  readonly retryInMs: number;
}

export interface UploaderOptions {
  readonly store: ObjectStore;
  /** Transfers at once, over all jobs. */
  readonly concurrency: number;
  readonly unavailable?: BackoffPolicy;
  /** A refusal needs a person: tried again, but slowly. */
  readonly rejected?: BackoffPolicy;
  /** For logs and the retry counter. */
  readonly onFailure?: (failure: UploadFailure) => void;
  /** One per file that went up. */
  readonly onUploaded?: (file: { readonly key: string; readonly sizeBytes: number; readonly seconds: number }) => void;
  readonly sleep?: Sleep;
  readonly random?: () => number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
}

export const UNAVAILABLE_BACKOFF: BackoffPolicy = { firstMs: 500, factor: 2, maxMs: 30_000, jitter: 0.5 };
export const REJECTED_BACKOFF: BackoffPolicy = { firstMs: 15_000, factor: 2, maxMs: 300_000, jitter: 0.3 };
const TAKE_BACK_TIMEOUT_MS = 10_000;

const outputFolder = (id: string): string => `outputs/${id}/`;

export function outputKey(id: string, claim: number, name: string): string {
  return `${outputFolder(id)}${claim}/${name}`;
}

export function createUploader(options: UploaderOptions): Uploader {
  const slots = new Semaphore(options.concurrency);
  return {
    upload: (request) => uploadAll(options, slots, request),
    removeEarlier: (id, claim) => removeEarlier(options.store, id, claim),
  };
}

async function uploadAll(options: UploaderOptions, slots: Semaphore, request: UploadRequest): Promise<readonly ResultFile[]> {
  const stop = new AbortController();
  const signal = AbortSignal.any([request.signal, stop.signal]);
  const results = request.files.map((file) => ({ ...file, key: outputKey(request.id, request.claim, file.name) }));
  const uploads = results.map((file) =>
    uploadOne(options, slots, { file, path: join(request.outDir, file.name), signal }).catch((thrown: unknown) => {
      stop.abort(thrown);
      throw thrown;
    }),
  );
  await Promise.allSettled(uploads);
  if (!signal.aborted) return results;
  if (mustTakeBack(request.signal)) await takeBack(options.store, results);
  throw signal.reason;
}

interface FileUpload {
  readonly file: ResultFile;
  readonly path: string;
  readonly signal: AbortSignal;
}

async function uploadOne(options: UploaderOptions, slots: Semaphore, upload: FileUpload): Promise<void> {
  const sleep = options.sleep ?? realSleep;
  for (let attempt = 1; ; attempt += 1) {
    const failed = await tryOnce(options, slots, upload);
    if (failed === null) return;
    const policy =
      failed.code === "STORAGE_REJECTED" ? (options.rejected ?? REJECTED_BACKOFF) : (options.unavailable ?? UNAVAILABLE_BACKOFF);
    const retryInMs = backoffDelayMs(policy, attempt, options.random);
    options.onFailure?.({ key: upload.file.key, error: failed, attempt, retryInMs });
    await sleep(retryInMs, upload.signal);
  }
}

/** Null when it went up. A slot is held for the transfer alone: files that wait for a retry hold up nobody. */
async function tryOnce(options: UploaderOptions, slots: Semaphore, { file, path, signal }: FileUpload): Promise<AppError | null> {
  using _slot = await slots.acquire(signal);
  const now = options.now ?? performance.now.bind(performance);
  const startedAt = now();
  try {
    await options.store.put(file.key, path, { contentType: file.contentType, sha256: file.sha256, sizeBytes: file.sizeBytes, signal });
  } catch (thrown) {
    signal.throwIfAborted();
    const error = asAppError(thrown);
    if (error.code === "STORAGE_UNAVAILABLE" || error.code === "STORAGE_REJECTED") return error;
    throw error;
  }
  options.onUploaded?.({ key: file.key, sizeBytes: file.sizeBytes, seconds: (now() - startedAt) / 1000 });
  return null;
}

function mustTakeBack(signal: AbortSignal): boolean {
  // Not aborted from outside: a file of the set is bad, so nothing of this claim is ever published.
  if (!signal.aborted) return true;
  return signal.reason instanceof AppError && ["LOCK_LOST", "CANCELLED"].includes(signal.reason.code);
}

/** Best effort: objects of a claim that nobody acknowledged are never linked to, they only take space. */
async function takeBack(store: ObjectStore, files: readonly ResultFile[]): Promise<void> {
  const signal = AbortSignal.timeout(TAKE_BACK_TIMEOUT_MS);
  await Promise.allSettled(files.map((file) => store.delete(file.key, { signal })));
}

/** Never touches a later claim's: whoever has that one is the job's holder. */
async function removeEarlier(store: ObjectStore, id: string, claim: number): Promise<void> {
  const signal = AbortSignal.timeout(TAKE_BACK_TIMEOUT_MS);
  const folder = outputFolder(id);
  const found: string[] = [];
  try {
    for await (const { key } of store.list(folder, { signal })) if (Number(key.slice(folder.length).split("/")[0]) < claim) found.push(key);
  } catch {
    return;
  }
  await Promise.allSettled(found.map((key) => store.delete(key, { signal })));
}
