import { AppError } from "../../protocol/error.ts";
import type { Output } from "../../protocol/result.ts";
import { jobPipeline } from "../job-pipeline.ts";
import type { JobRun } from "../job-run.ts";
import { readImage } from "../media/read-image.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import type { PipelineFactory } from "../pipeline.ts";
import { LtxClip } from "./ltx-clip.ts";
import { parseLtxJob } from "./ltx-job.ts";
import { openLtxModel, type LtxModel } from "./ltx-model.ts";
import { sizeOf } from "./video-latents.ts";
import { LATENT_CHANNELS } from "./video-transformer.ts";

/**
 * LTX-Video: text-to-video and image-to-video, from the graphs of scripts/export/ltx_graphs.py. Follows diffusers' LTXPipeline,
 * LTXImageToVideoPipeline and LTXConditionPipeline to 1e-3 in the latents of every step (test/integration/ltx-golden.test.ts).
 *
 * Stages: text, encode_input (image-to-video), denoise (once a step), decode (once a tile), encode.
 */
export const createLtxPipeline: PipelineFactory = jobPipeline({
  open: openLtxModel,
  /** Decodes the smallest black clip. */
  probe: async ({ decoder, enter }) => {
    await enter("decode", () => undefined);
    const shape = { channels: LATENT_CHANNELS, frames: 1, height: 1, width: 1 };
    const zeros = new Float32Array(sizeOf(shape));
    return (await decoder.decode(zeros, shape, decoder.conditioned ? { noise: zeros, scale: 0, timestep: 0 } : null)).data;
  },
  make,
});

async function make(run: JobRun, model: LtxModel): Promise<Output> {
  const { job, manifest } = run;
  const { first, last } = await readPictures(run, model);
  const { mode, schedule } = model.config;
  // One step cannot be stretched to a terminal noise level other than its own.
  const minSteps = mode === "classic" && schedule.shift_terminal ? 2 : 1;
  return new LtxClip(run, model, parseLtxJob({ job, manifest, minSteps, first, last })).make();
}

const FIRST = "first_frame_image";
const LAST = "last_frame_image";

interface Pictures {
  readonly first: RgbImage | null;
  readonly last: RgbImage | null;
}

async function readPictures({ job, manifest }: JobRun, { encoder, config }: LtxModel): Promise<Pictures> {
  const { id, task, inputs } = job;
  const { slug, features } = manifest;
  if (task !== "img2video") return { first: null, last: null };
  if (encoder === null) {
    const detail = `Model ${slug} does no image-to-video.`;
    throw new AppError("INVALID_INPUT", `model ${slug} has no image-to-video: its manifest does not list img2video`, {
      field: "model",
      detail,
    });
  }
  const find = (name: string) => inputs.find((input) => input.name === name);
  const first = find(FIRST);
  if (first === undefined) {
    const detail = "Task img2video needs a first picture.";
    throw new AppError("INVALID_INPUT", `job ${id}: task img2video needs ${FIRST}, it has none`, { field: FIRST, detail });
  }
  const last = find(LAST);
  if (last !== undefined && (features["supports_last_frame"] !== true || config.mode !== "condition")) {
    const detail = `Model ${slug} takes no last picture.`;
    throw new AppError("INVALID_INPUT", `job ${id} has a ${LAST}, which model ${slug} does not take`, { field: LAST, detail });
  }
  return { first: await readImage(first.path, FIRST), last: last === undefined ? null : await readImage(last.path, LAST) };
}
