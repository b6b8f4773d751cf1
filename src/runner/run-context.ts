import { isDeepStrictEqual } from "node:util";
import type { Backend } from "../pipelines/backend.ts";
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
  /** The backend's: ends native runs. */
  readonly guard: Backend["guard"];
  /** A line for the operator. */
  readonly say: (line: string) => void;
  /** Milliseconds of any monotonic clock. */
  readonly now?: () => number;
}

/** What a pipeline sees of the daemon while a batch runs. Once all jobs have ended, it guards no run any more. */
export class BatchContext implements RunContext {
  readonly #options: RunContextOptions;
  readonly #now: () => number;
  readonly #nextPreviewAt = new Map<string, number>();
  /** Previews that are being rendered, at most one a job. */
  readonly #rendering = new Map<string, Promise<void>>();
  /** Whom the work under way is for, and what ends its native runs. */
  #work: { readonly ids: readonly string[]; readonly abort: AbortController } | null = null;
  #told: string | null = null;
  #toldIds: readonly string[] = [];

  constructor(options: RunContextOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  stage(name: string, ids: readonly string[]): void {
    // A progress message of the same stage, for the same jobs, has just wound up the deadline.
    if (this.#told !== name || !isDeepStrictEqual(ids, this.#toldIds)) this.#options.send({ type: "stage", stage: name, ids });
    this.#told = null;
    this.#toldIds = ids;
    const abort = new AbortController();
    this.#work = { ids, abort };
    this.#options.guard(abort.signal);
    this.review();
  }

  /** To be called after each cancel and each end of a job: ends the native runs of work that nobody waits for any more. */
  review(): void {
    if (this.#work === null) return;
    const { ids, abort } = this.#work;
    const waiting = ids.filter((id) => this.#options.isOpen(id));
    if (waiting.length > 0) {
      if (waiting.every((id) => this.cancelled(id))) abort.abort();
      return;
    }
    // What runs from here to the next stage, or to the next batch or ping, is for others.
    this.#work = null;
    this.#options.guard(null);
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
