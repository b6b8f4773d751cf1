import { AppError, asAppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { isDeviceFailure } from "../device-failure.ts";
import { requireFinite } from "../job-pipeline.ts";
import { readImage } from "../media/read-image.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import type { JobEnd, LoadContext, Pipeline, PipelineFactory, RunContext } from "../pipeline.ts";
import { PictureBatch, type Member } from "./picture-batch.ts";
import { groupKey, parsePictureJob } from "./picture-job.ts";
import { sizeStepOf, type PictureModel } from "./picture-model.ts";

type End = (id: string, end: JobEnd) => void;

/**
 * Text-to-image and image-to-image with a model that a family opens: jobs of one size, number of steps and guidance are one run.
 *
 * Stages: text, encode_input (image-to-image), denoise (once a step), decode, encode.
 */
export function picturePipeline<Text>(open: (context: LoadContext) => Promise<PictureModel<Text>>): PipelineFactory {
  return async (context) => new PicturePipeline(context.manifest, await open(context));
}

class PicturePipeline<Text> implements Pipeline {
  readonly #manifest: Manifest;
  readonly #model: PictureModel<Text>;

  constructor(manifest: Manifest, model: PictureModel<Text>) {
    this.#manifest = manifest;
    this.#model = model;
  }

  async run(jobs: readonly RunnerJob[], context: RunContext, end: End): Promise<void> {
    const members: Member[] = [];
    for (const job of jobs) {
      const member = await this.#prepare(job, context, end);
      if (member !== null) members.push(member);
    }
    for (const group of Map.groupBy(members, ({ job }) => groupKey(job)).values()) await this.#runGroup(group, context, end);
  }

  /** Decodes a black latent of the smallest size: one real run on the device, whatever its provider. */
  async probe(): Promise<void> {
    const { decoder, latents } = this.#model;
    await this.#model.enter("decode", () => undefined);
    const side = sizeStepOf(this.#model) / latents.factor;
    const shape = { channels: latents.channels, height: side, width: side };
    requireFinite((await decoder.decode(new Float32Array(shape.channels * side * side), shape)).data, this.#manifest);
  }

  close(): Promise<void> {
    return this.#model.release();
  }

  /** Reads and checks one job's inputs; null when it ended already. */
  async #prepare(job: RunnerJob, context: RunContext, end: End): Promise<Member | null> {
    const startedAt = performance.now();
    try {
      if (context.cancelled(job.id)) throw new AppError("CANCELLED", `job ${job.id} was cancelled before it ran`);
      const image = job.task === "img2img" ? await this.#readStart(job) : null;
      const { hasGuidance } = this.#model;
      const parsed = parsePictureJob({ job, manifest: this.#manifest, hasGuidance, sizeStep: sizeStepOf(this.#model), image });
      return { job: parsed, inputMs: performance.now() - startedAt };
    } catch (thrown) {
      end(job.id, { ok: false, error: asAppError(thrown) });
      return null;
    }
  }

  async #readStart(job: RunnerJob): Promise<RgbImage> {
    if (this.#model.encoder === null) {
      const { slug } = this.#manifest;
      const detail = `Model ${slug} does no image-to-image.`;
      throw new AppError("INVALID_INPUT", `model ${slug} has no image-to-image: its manifest does not list img2img`, {
        field: "model",
        detail,
      });
    }
    const input = job.inputs[0];
    if (input === undefined) {
      const detail = "Task img2img needs an image.";
      throw new AppError("INVALID_INPUT", `job ${job.id}: task img2img needs an input image, it has none`, { field: "image", detail });
    }
    return readImage(input.path, input.name);
  }

  /** A failed run ends the jobs that shared it; only what concerns the device goes further. */
  async #runGroup(group: readonly Member[], context: RunContext, end: End): Promise<void> {
    const open = new Set(group.map(({ job }) => job.id));
    const endOnce: End = (id, result) => {
      if (open.delete(id)) end(id, result);
    };
    try {
      await new PictureBatch({ model: this.#model, slug: this.#manifest.slug, context, end: endOnce, first: group[0]!.job }).run(group);
    } catch (thrown) {
      const error = asAppError(thrown, "PIPELINE_FAILED");
      if (isDeviceFailure(error.code)) throw error;
      for (const id of open) endOnce(id, { ok: false, error });
    }
  }
}
