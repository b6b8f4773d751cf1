import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { readImage } from "../media/read-image.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import type { JobEnd, JobOutput, Pipeline, PipelineFactory, RunContext } from "../pipeline.ts";
import { runEach } from "../run-each.ts";
import { LtxClip } from "./ltx-clip.ts";
import { parseLtxJob } from "./ltx-job.ts";
import { openLtxModel, type LtxModel } from "./ltx-model.ts";
import { sizeOf } from "./video-latents.ts";
import { LATENT_CHANNELS } from "./video-transformer.ts";

/**
 * LTX-Video: text-to-video and image-to-video, from the graphs of scripts/export/ltx_graphs.py. Follows diffusers' LTXPipeline,
 * LTXImageToVideoPipeline and LTXConditionPipeline to 1e-3 in the latents of every step (test/integration/ltx-golden.test.ts).
 *
 * Stages: text, encode_input (image-to-video), denoise (once a step), decode (once a tile), encode. Jobs run one after the other.
 */
export const createLtxPipeline: PipelineFactory = async (context) => new LtxPipeline(context.manifest, await openLtxModel(context));

class LtxPipeline implements Pipeline {
  readonly #manifest: Manifest;
  readonly #model: LtxModel;

  constructor(manifest: Manifest, model: LtxModel) {
    this.#manifest = manifest;
    this.#model = model;
  }

  run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void> {
    return runEach(jobs, end, (job) => this.#runJob(job, context));
  }

  /** Decodes the smallest black clip: one real run on the device, whatever its provider. */
  async probe(): Promise<void> {
    const { decoder } = this.#model;
    const shape = { channels: LATENT_CHANNELS, frames: 1, height: 1, width: 1 };
    const zeros = new Float32Array(sizeOf(shape));
    const { data } = await decoder.decode(zeros, shape, decoder.conditioned ? { noise: zeros, scale: 0, timestep: 0 } : null);
    if (!data.every(Number.isFinite))
      throw new AppError("DEVICE_UNAVAILABLE", `model ${this.#manifest.slug}: the probe's output is not finite`);
  }

  close(): Promise<void> {
    return this.#model.release();
  }

  async #runJob(job: RunnerJob, context: RunContext): Promise<JobOutput> {
    if (context.cancelled(job.id)) throw new AppError("CANCELLED", `job ${job.id} was cancelled before it ran`);
    const startedAt = performance.now();
    const { first, last } = await this.#readPictures(job);
    const { mode, schedule } = this.#model.config;
    // One step cannot be stretched to a terminal noise level other than its own.
    const minSteps = mode === "classic" && schedule.shift_terminal ? 2 : 1;
    const parsed = parseLtxJob({ job, manifest: this.#manifest, minSteps, first, last });
    const clip = new LtxClip({ model: this.#model, slug: this.#manifest.slug, context, job: parsed });
    return clip.run(performance.now() - startedAt);
  }

  async #readPictures({ id, task, inputs }: RunnerJob): Promise<{ readonly first: RgbImage | null; readonly last: RgbImage | null }> {
    if (task !== "img2video") return { first: null, last: null };
    const { slug, features } = this.#manifest;
    if (this.#model.encoder === null)
      throw new AppError("INVALID_INPUT", `model ${slug} has no image-to-video: its manifest does not list img2video`);
    const find = (name: string) => inputs.find((input) => input.name === name);
    const first = find("first_frame_image");
    if (first === undefined) throw new AppError("INVALID_INPUT", `job ${id}: task img2video needs first_frame_image, it has none`);
    const last = find("last_frame_image");
    if (last !== undefined && (features["supports_last_frame"] !== true || this.#model.config.mode !== "condition"))
      throw new AppError("INVALID_INPUT", `job ${id} has a last_frame_image, which model ${slug} does not take`);
    return { first: await readImage(first.path), last: last === undefined ? null : await readImage(last.path) };
  }
}
