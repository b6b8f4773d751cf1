import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const BLOCK_BYTES = 2 ** 20;

/**
 * The sha256 of a file that is being written from its beginning, mostly: a thread of its own reads what is there, out of the page cache, so
 * that the digest is known almost as soon as the last byte is.
 */
export class PrefixDigest implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #digest: Promise<string>;
  #upTo = 0;

  constructor(path: string) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { prefixDigestOf: path } });
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.#worker.once("message", resolve).once("error", reject);
    // Told by `finish`, also of an error in the middle.
    promise.catch(() => undefined);
    this.#digest = promise;
  }

  /** The first so many bytes are what they will be. */
  grown(upTo: number): void {
    if (upTo - this.#upTo < BLOCK_BYTES) return;
    this.#upTo = upTo;
    this.#worker.postMessage({ upTo });
  }

  /** Of the first `size` bytes, all of which are written. Rejects with the file system's error. */
  async finish(size: number): Promise<string> {
    this.#worker.postMessage({ upTo: size, end: true });
    return this.#digest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

function follow(path: string): void {
  const hash = createHash("sha256");
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  let at = 0;
  parentPort?.on("message", ({ upTo, end = false }: { upTo: number; end?: boolean }) => {
    const file = openSync(path, "r");
    try {
      while (at < upTo) {
        const read = readSync(file, block, 0, Math.min(BLOCK_BYTES, upTo - at), at);
        if (read === 0) throw new Error(`${path} ends at ${at}, expected ${upTo} bytes`);
        hash.update(block.subarray(0, read));
        at += read;
      }
    } finally {
      closeSync(file);
    }
    if (end) parentPort?.postMessage(hash.digest("hex"));
  });
}

const given = (workerData as { readonly prefixDigestOf?: string } | null)?.prefixDigestOf;
if (!isMainThread && given !== undefined) follow(given);
