import { setImmediate as turn, setTimeout as wait } from "node:timers/promises";
import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import type { JobEnd, Pipeline, PipelineFactory, RunContext } from "../pipeline.ts";
import { BatchFault, blockFor, commitFault, isDue, isFaultyTry } from "./fake-fault.ts";
import { PNG_SIZE, PREVIEW_JPEG, writeBytes, writePicture } from "./fake-output.ts";
import { parseFakeOptions, parseFakeParams, type FakeParams, type FaultStage } from "./fake-params.ts";

/**
 * A model family without a model, for tests and rehearsals on any machine: each job's parameters say how long it takes, how it blocks,
 * what it writes and what goes wrong at which stage (fake-params.ts). It goes through the stages text, denoise, decode, encode and
 * reports as the real families do.
 */
export const createFakePipeline: PipelineFactory = async (context) => {
  const { manifest, modelDir } = context;
  const options = parseFakeOptions(manifest.options, manifest.slug);
  const { fault } = options;
  if (isDue(fault, "load") && isFaultyTry(`${modelDir}/${manifest.slug}`, options.fault_claims)) {
    context.stage("load:fault");
    await unwrapped(() => commitFault(fault, () => false));
  }
  if (options.load_ms > 0) await wait(options.load_ms);
  if (options.load_busy_ms > 0) blockFor(options.load_busy_ms);
  return new FakePipeline();
};

interface Running {
  readonly job: RunnerJob;
  readonly params: FakeParams;
  /** The fault happens on this try. */
  readonly faulty: boolean;
}

class FakePipeline implements Pipeline {
  async run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void> {
    const startedAt = performance.now();
    let running = jobs.flatMap((job) => {
      try {
        const params = parseFakeParams(job.params);
        return [{ job, params, faulty: params.fault !== undefined && isFaultyTry(job.id, params.fault_claims) }];
      } catch (error) {
        end(job.id, { ok: false, error });
        return [];
      }
    });
    const steps = Math.max(0, ...running.map(({ params }) => params.steps));
    running = await this.#stage("text", running, context, end);
    for (let step = 1; step <= steps && running.length > 0; step++) {
      running = await this.#stage("denoise", running, context, end, step);
    }
    running = await this.#stage("decode", running, context, end);
    const runMs = performance.now() - startedAt;
    for (const one of await this.#stage("encode", running, context, end)) end(one.job.id, finished(one, runMs));
  }

  probe(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** One stage (or step) of all jobs; returns those that go on. */
  async #stage(
    stage: FaultStage,
    running: readonly Running[],
    context: RunContext,
    end: (id: string, end: JobEnd) => void,
    step?: number,
  ): Promise<Running[]> {
    // A no-op batch says nothing: its cost is what the machinery around it costs.
    if (running.every(({ params }) => params.steps === 0 && params.fault === undefined)) return [...running];
    const startedAt = performance.now();
    context.stage(
      stage,
      running.map(({ job }) => job.id),
    );
    // As a native run does, it lets in what waits: the second of two turns surely has a poll phase before it, where commands are read.
    await turn();
    await turn();
    const going: Running[] = [];
    for (const one of running) {
      try {
        await this.#work(one, stage, context, step);
        if (step !== undefined && step <= one.params.steps) report(one, context, step, performance.now() - startedAt);
        going.push(one);
      } catch (thrown) {
        if (thrown instanceof BatchFault) throw thrown.cause;
        end(one.job.id, { ok: false, error: thrown });
      }
    }
    return going;
  }

  async #work(one: Running, stage: FaultStage, context: RunContext, step: number | undefined): Promise<void> {
    const { job, params, faulty } = one;
    const fault = faulty ? params.fault : undefined;
    if (isDue(fault, stage, step)) await commitFault(fault, () => context.cancelled(job.id));
    if (step !== undefined && step <= params.steps) {
      if (params.step_ms > 0) await wait(params.step_ms);
      if (params.busy_ms > 0) blockFor(params.busy_ms);
    }
    if (fault?.kind !== "ignore_cancel" && context.cancelled(job.id))
      throw new AppError("CANCELLED", `job ${job.id} was cancelled in stage ${stage}`);
  }
}

function report({ job, params }: Running, context: RunContext, step: number, stepMs: number): void {
  context.progress(job.id, { fraction: step / (params.steps + 1), stage: "denoise", step, steps: params.steps, stepMs });
  context.preview(job.id, step, () => PREVIEW_JPEG);
}

function finished(one: Running, runMs: number): JobEnd {
  const { job, params, faulty } = one;
  const startedAt = performance.now();
  try {
    const kind = faulty ? params.fault?.kind : undefined;
    const file = writeOutput(job, params, kind);
    const encodeMs = performance.now() - startedAt;
    const info = params.output_bytes === undefined ? { width: PNG_SIZE, height: PNG_SIZE } : { bytes: file.sizeBytes };
    return {
      ok: true,
      output: {
        files: [file],
        seed: params.seed ?? null,
        info,
        ...(params.text_chars !== undefined && { text: "ж".repeat(params.text_chars) }),
        inputMs: 0,
        runMs,
        encodeMs,
        sessionMs: params.steps * (params.step_ms + params.busy_ms),
      },
    };
  } catch (error) {
    return { ok: false, error };
  }
}

function writeOutput(job: RunnerJob, params: FakeParams, fault: string | undefined): SpoolFile {
  const file = params.output_bytes === undefined ? writePicture(job.outDir) : writeBytes(job.outDir, params.output_bytes, params.seed ?? 0);
  if (fault === "missing_file") return { ...file, name: `missing-${file.name}` };
  if (fault === "wrong_sha") return { ...file, sha256: "0".repeat(64) };
  return file;
}

/** Outside a batch there is no batch to fail: the cause itself is thrown. */
async function unwrapped(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (thrown) {
    throw thrown instanceof BatchFault ? thrown.cause : thrown;
  }
}
