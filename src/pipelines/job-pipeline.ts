import { AppError, asAppError } from "../protocol/error.ts";
import type { JobOutput, RunnerJob } from "../protocol/ipc.ts";
import type { Output } from "../protocol/result.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { isDeviceFailure } from "./device-failure.ts";
import { spentMs, spentSince, type OpenGraphs } from "./graph/open-graphs.ts";
import { JobRun } from "./job-run.ts";
import type { JobEnd, LoadContext, Pipeline, PipelineFactory, RunContext } from "./pipeline.ts";

/** What a family says; that its jobs run one after the other, each to its own end, is the same for all. */
export interface JobFamily<Model extends OpenGraphs> {
  /** @throws AppError MODEL_* | MANIFEST_INVALID naming the file */
  readonly open: (context: LoadContext) => Promise<Model>;
  /** A small real run on the device that holds the model: what came out. */
  readonly probe: (model: Model) => Promise<ArrayLike<number>>;
  /** Makes one job's files, complete under their final names in its `outDir`. @throws AppError CANCELLED, and whatever ends the job */
  readonly make: (run: JobRun, model: Model) => Promise<Output>;
}

/** A pipeline that runs jobs one after the other. */
export function jobPipeline<Model extends OpenGraphs>(family: JobFamily<Model>): PipelineFactory {
  return async (context) => new JobPipeline(family, context.manifest, await family.open(context));
}

class JobPipeline<Model extends OpenGraphs> implements Pipeline {
  readonly #family: JobFamily<Model>;
  readonly #manifest: Manifest;
  readonly #model: Model;

  constructor(family: JobFamily<Model>, manifest: Manifest, model: Model) {
    this.#family = family;
    this.#manifest = manifest;
    this.#model = model;
  }

  /** @throws AppError that concerns the device and so all jobs that have not ended */
  async run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void> {
    for (const job of jobs) {
      try {
        end(job.id, { ok: true, output: await this.#make(job, context) });
      } catch (thrown) {
        const error = asAppError(thrown, "PIPELINE_FAILED");
        if (isDeviceFailure(error.code)) throw error;
        end(job.id, { ok: false, error: thrown });
      }
    }
  }

  async probe(): Promise<void> {
    requireFinite(await this.#family.probe(this.#model), this.#manifest);
  }

  close(): Promise<void> {
    return this.#model.release();
  }

  async #make(job: RunnerJob, context: RunContext): Promise<JobOutput> {
    if (context.cancelled(job.id)) throw new AppError("CANCELLED", `job ${job.id} was cancelled before it ran`);
    const before = spentMs(this.#model);
    const run = new JobRun(job, this.#manifest, context);
    const made = await this.#family.make(run, this.#model);
    return { ...made, ...run.times(), ...spentSince(this.#model, before) };
  }
}

/** @throws AppError DEVICE_UNAVAILABLE when a probe's output cannot be right, whatever the model */
export function requireFinite(values: ArrayLike<number>, { slug }: Manifest): void {
  if (values.length > 0 && Array.prototype.every.call(values, Number.isFinite)) return;
  throw new AppError("DEVICE_UNAVAILABLE", `model ${slug}: the probe's output is empty or not finite`);
}
