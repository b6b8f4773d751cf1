import { AppError } from "../protocol/error.ts";
import type { JobOutput, RunnerJob } from "../protocol/ipc.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { RunContext } from "./pipeline.ts";

type Phase = "input" | "run" | "encode";

/** One job under way, for families that run jobs one after the other: its stages, progress and times. */
export class JobRun {
  readonly job: RunnerJob;
  readonly manifest: Manifest;
  readonly #context: RunContext;
  readonly #spentMs: Record<Phase, number> = { input: 0, run: 0, encode: 0 };
  #phase: Phase = "input";
  #since = performance.now();

  constructor(job: RunnerJob, manifest: Manifest, context: RunContext) {
    this.job = job;
    this.manifest = manifest;
    this.#context = context;
  }

  /** Begins a stage, or the next step of one (RunContext.stage). A cancel ends its native runs as well. @throws AppError CANCELLED */
  begin(stage: string): void {
    const { id } = this.job;
    this.#context.stage(stage, [id]);
    if (this.#context.cancelled(id)) throw new AppError("CANCELLED", `job ${id} was cancelled in stage ${stage}`);
  }

  /** `fraction` is 0..1 over the whole job. */
  progress(stage: string, fraction: number, { step = 0, steps = 0, stepMs = 0 } = {}): void {
    this.#context.progress(this.job.id, { stage, fraction, step, steps, stepMs });
  }

  /** See RunContext. */
  preview(step: number, render: () => Uint8Array | Promise<Uint8Array>): void {
    this.#context.preview(this.job.id, step, render);
  }

  /** Between pieces of work within a stage. @throws AppError CANCELLED */
  throwIfCancelled(): void {
    const { id } = this.job;
    if (this.#context.cancelled(id)) throw new AppError("CANCELLED", `job ${id} was cancelled`);
  }

  /** From here on time counts as this; a job begins with reading its input. */
  spend(phase: Phase): void {
    const now = performance.now();
    this.#spentMs[this.#phase] += now - this.#since;
    this.#phase = phase;
    this.#since = now;
  }

  /** Milliseconds of each kind so far. */
  times(): Pick<JobOutput, "inputMs" | "runMs" | "encodeMs"> {
    this.spend(this.#phase);
    const { input, run, encode } = this.#spentMs;
    return { inputMs: input, runMs: run, encodeMs: encode };
  }
}
