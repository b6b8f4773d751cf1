import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ErrorCode } from "../../src/protocol/error.ts";
import type { JobDoneMessage, RunnerJob } from "../../src/protocol/ipc.ts";
import { RunnerBatch } from "../../src/worker/runners/runner-batch.ts";
import type { BatchOptions, RunnerEvent } from "../../src/worker/runners/runner-types.ts";

/** A batch inside a fake runner: the test says how each of its jobs ends. */
export class FakeBatch {
  readonly jobs: readonly RunnerJob[];
  readonly #books: RunnerBatch;
  readonly #onEnd: (reusable: boolean) => void;

  constructor(options: BatchOptions, onEnd: (reusable: boolean) => void) {
    this.jobs = options.jobs;
    this.#books = new RunnerBatch(options);
    this.#onEnd = onEnd;
  }

  get books(): RunnerBatch {
    return this.#books;
  }

  event(event: RunnerEvent): void {
    this.#books.options.onEvent?.(event);
  }

  /** Writes one file for the job and reports it done; resolves when the daemon has recorded it. */
  done(id: string = this.#only()): Promise<void> {
    const job = this.jobs.find((each) => each.id === id);
    if (job === undefined) throw new Error(`job ${id} is not in the fake batch`);
    const bytes = `picture of ${id}`;
    writeFileSync(join(job.outDir, "image.png"), bytes);
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const file = { name: "image.png", role: "main", contentType: "image/png", sizeBytes: bytes.length, sha256 } as const;
    const times = { inputMs: 0, runMs: 1, encodeMs: 1, sessionMs: 1 };
    const message: JobDoneMessage = { type: "job-done", id, files: [file], seed: 1, info: {}, ...times };
    return this.#report(message);
  }

  /** Reports the job failed. */
  fail(code: ErrorCode, id: string = this.#only()): Promise<void> {
    return this.#report({ type: "job-failed", id, error: { code, message: `the fake runner says ${code}` } });
  }

  /** The runner is through with the batch. */
  end(reusable = true): void {
    this.#onEnd(reusable);
  }

  #report(message: Parameters<RunnerBatch["report"]>[0]): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    if (!this.#books.report(message, resolve)) throw new Error(`the fake runner reported job ${message.id} twice`);
    return promise;
  }

  #only(): string {
    const [job] = this.jobs;
    if (job === undefined) throw new Error("the fake batch is empty");
    return job.id;
  }
}
