import { setImmediate as turn } from "node:timers/promises";
import type { RunContext } from "../pipelines/pipeline.ts";
import { MAX_PREVIEWS_PER_SECOND } from "../protocol/event.ts";
import type { RunnerMessage } from "../protocol/ipc.ts";

const PREVIEW_GAP_MS = 1_000 / MAX_PREVIEWS_PER_SECOND;

export interface RunContextOptions {
  readonly send: (message: RunnerMessage) => void;
  readonly previews: boolean;
  /** Ids whose cancel has arrived; grows while the batch runs. */
  readonly cancelled: ReadonlySet<string>;
  /** Whether the job has not ended yet. */
  readonly isOpen: (id: string) => boolean;
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
  /** Previews that are being rendered, at most one a job. */
  readonly #rendering = new Map<string, Promise<void>>();
  #stage: string | null = null;
  #told: string | null = null;

  constructor(options: RunContextOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  async stage(name: string, _ids: readonly string[]): Promise<void> {
    // A progress message of the same stage has just wound up the deadline.
    if (this.#told !== name) this.#options.send({ type: "stage", stage: name });
    this.#told = null;
    // The next stage may block for long: what was rendered beside the last one goes out before.
    if (this.#stage !== name) await this.settled();
    this.#stage = name;
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

  preview(id: string, step: number, render: () => Uint8Array | Promise<Uint8Array>): void {
    const { previews } = this.#options;
    if (!previews || this.#rendering.has(id) || this.#now() < (this.#nextPreviewAt.get(id) ?? 0)) return;
    this.#nextPreviewAt.set(id, this.#now() + PREVIEW_GAP_MS);
    this.#rendering.set(
      id,
      this.#render(id, step, render).finally(() => this.#rendering.delete(id)),
    );
  }

  /** Settles when no preview is being rendered any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#rendering.values());
  }

  /** A picture that cannot be made costs the preview, never the job. */
  async #render(id: string, step: number, render: () => Uint8Array | Promise<Uint8Array>): Promise<void> {
    const { send, say, isOpen } = this.#options;
    try {
      const jpeg = await render();
      if (isOpen(id)) send({ type: "preview", id, jpeg, step });
    } catch (thrown) {
      say(`preview of step ${step} of job ${id} dropped: ${String(thrown)}`);
    }
  }
}
