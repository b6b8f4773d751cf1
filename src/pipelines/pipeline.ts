import type { DeviceSpec, JobOutput, RunnerJob } from "../protocol/ipc.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Backend } from "./backend.ts";

/** What a pipeline may use while it loads. `stage` must be called before every call that blocks. */
export interface LoadContext {
  readonly manifest: Manifest;
  /** Absolute folder that holds the manifest's files. */
  readonly modelDir: string;
  readonly device: DeviceSpec;
  readonly backend: Backend;
  readonly previews: boolean;
  readonly embeddingCacheBytes: number;
  stage(name: string): void;
}

/** What a pipeline reports while a batch runs. None of these throws or waits for the daemon. */
export interface RunContext {
  /**
   * Announces a stage whose native calls may block; arms the daemon's deadline for it. Awaiting it lets waiting commands (cancel) in,
   * so every step calls and awaits it. `ids`: the jobs that the work until the next stage is for.
   */
  stage(name: string, ids: readonly string[]): Promise<void>;
  /** True once the daemon asked to cancel that job: a pipeline stops working for it at the next step. */
  cancelled(id: string): boolean;
  progress(
    id: string,
    at: { readonly fraction: number; readonly stage: string; readonly step: number; readonly steps: number; readonly stepMs: number },
  ): void;
  /**
   * Offers a preview. `render` is called at once, or not at all: where previews are off, the rate allows none now, or the job's last one is
   * still being made. It reads at once what the next step changes, and may encode beside it. At most 16 KiB of JPEG; one that is larger or
   * cannot be made is dropped and said in the log.
   */
  preview(id: string, step: number, render: () => Uint8Array | Promise<Uint8Array>): void;
}

export type JobEnd = { readonly ok: true; readonly output: JobOutput } | { readonly ok: false; readonly error: unknown };

/** One loaded model. A runner holds exactly one. */
export interface Pipeline {
  /**
   * Runs a batch. Calls `end` once per job, as soon as that job has ended (its files complete in its outDir under their final names);
   * one job's failure must not fail the others. Throws only for what concerns the whole batch (device lost, out of memory).
   */
  run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void>;
  /** A small real operation on the device that holds the model; proves that it still answers. */
  probe(): Promise<void>;
  close(): Promise<void>;
}

/** A model family: manifest -> loaded pipeline. Throws AppError MODEL_* with the file named. */
export type PipelineFactory = (context: LoadContext) => Promise<Pipeline>;
