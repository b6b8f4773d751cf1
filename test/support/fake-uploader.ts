import { outputKey, type Uploader, type UploadRequest } from "../../src/worker/claims/uploader.ts";

/** An object store that the test can take away; keeps keys alone. */
export class FakeUploader implements Uploader {
  readonly stored = new Set<string>();
  readonly removedBefore: string[] = [];
  /** Uploads that wait, while the store is away. */
  waiting = 0;
  #back: PromiseWithResolvers<void> | null = null;

  away(): void {
    this.#back ??= Promise.withResolvers();
  }

  back(): void {
    this.#back?.resolve();
    this.#back = null;
  }

  async upload({ id, claim, files, signal }: UploadRequest): ReturnType<Uploader["upload"]> {
    if (this.#back !== null) {
      this.waiting += 1;
      const aborted = Promise.withResolvers<never>();
      const onAbort = (): void => aborted.reject(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      await Promise.race([this.#back.promise, aborted.promise]).finally(() => {
        this.waiting -= 1;
        signal.removeEventListener("abort", onAbort);
      });
    }
    signal.throwIfAborted();
    const results = files.map((file) => ({ ...file, key: outputKey(id, claim, file.name) }));
    for (const { key } of results) this.stored.add(key);
    return results;
  }

  async removeEarlier(id: string, claim: number): Promise<void> {
    this.removedBefore.push(`${id}#${claim}`);
  }
}
