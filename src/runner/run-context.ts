import { setImmediate as turn } from "node:timers/promises";
import type { RunContext } from "../pipelines/pipeline.ts";
import { MAX_PREVIEW_BYTES, MAX_PREVIEWS_PER_SECOND } from "../protocol/event.ts";
import type { RunnerMessage } from "../protocol/ipc.ts";

const PREVIEW_GAP_MS = 1_000 / MAX_PREVIEWS_PER_SECOND;

export interface RunContextOptions {
  readonly send: (message: RunnerMessage) => void;
  readonly previews: boolean;
  /** Ids whose cancel has arrived; grows while the batch runs. */
  readonly cancelled: ReadonlySet<string>;
  /** A line for the operator. */
  readonly say: (line: string) => void;
  /** Milliseconds of any monotonic clock. */
  readonly now?: () => number;
}

/** What a pipeline sees of the daemon while a batch runs. */
export class BatchContext implements RunContext {
  readonly #options: RunContextOptions;
  readonly #now: () => number;
  readonly #nextPreviewAt = new Map<string, number>();
  #told: string | null = null;

  constructor(options: RunContextOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  async stage(name: string): Promise<void> {
    // A progress message of the same stage has just wound up the deadline.
    if (this.#told !== name) this.#options.send({ type: "stage", stage: name });
    this.#told = null;
    // Two turns: the first may start inside the loop's poll phase, the second surely has one before it, where commands are read.
    await turn();
    await turn();
  }

  cancelled(id: string): boolean {
    return this.#options.cancelled.has(id);
  }

  progress(id: string, at: Parameters<RunContext["progress"]>[1]): void {
    const fraction = Math.min(1, Math.max(0, at.fraction));
    this.#told = at.stage;
    this.#options.send({ ...at, type: "progress", id, fraction });
  }

  previewDue(id: string): boolean {
    return this.#options.previews && this.#now() >= (this.#nextPreviewAt.get(id) ?? 0);
  }

  preview(id: string, jpeg: Uint8Array, step: number): void {
    if (!this.previewDue(id)) return;
    if (jpeg.byteLength > MAX_PREVIEW_BYTES) {
      this.#options.say(`preview of step ${step} dropped: ${jpeg.byteLength} bytes, at most ${MAX_PREVIEW_BYTES} are sent`);
      return;
    }
    this.#nextPreviewAt.set(id, this.#now() + PREVIEW_GAP_MS);
    // A copy: a view into a larger buffer would be sent with all of it.
    this.#options.send({ type: "preview", id, jpeg: Uint8Array.from(jpeg), step });
  }
}
