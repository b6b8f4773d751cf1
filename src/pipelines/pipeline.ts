import type { DeviceSpec, JobOutput, RunnerJob } from "../protocol/ipc.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Backend } from "./backend.ts";

/** What a pipeline may use while it loads. */
export interface LoadContext {
  readonly manifest: Manifest;
  /** Absolute folder that holds the manifest's files. */
  readonly modelDir: string;
  readonly device: DeviceSpec;
  readonly backend: Backend;
  readonly previews: boolean;
  readonly embeddingCacheBytes: number;
  /** Bytes that the model may hold on its device: graphs that do not fit beside each other are open by turns. Null: all stay open. */
  readonly budgetBytes: number | null;
  /** Names what is loaded from now on. A manifest may set a deadline for it; else it shares the one of the load. */
  stage(name: string): void;
}

/** What a pipeline reports while a batch runs. None of these throws or waits for the daemon. */
export interface RunContext {
  /**
   * Begins a stage, or the next step of one: what clients are told, and the deadline that the daemon arms anew, so that a device which hangs
   * misses it. `ids`: the jobs that the work until the next stage is for. Once all of them are cancelled, its native runs end with CANCELLED
   * (Backend.guard), also when the cancel came before. Work of stages does not overlap.
   */
  stage(name: string, ids: readonly string[]): void;
  /**
   * True once the daemon asked to cancel that job. A run that is for others as well goes on; a pipeline stops working for the job at the
   * next step.
   */
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
