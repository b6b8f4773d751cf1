import type { SpoolFile } from "../../protocol/result.ts";
import { encodeImage } from "../media/encode-image.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import type { PictureJob } from "./picture-job.ts";

/** What the PNG says about how it was made. */
export function pictureTexts(job: PictureJob, model: string): Record<string, string> {
  return {
    prompt: job.prompt,
    ...(job.trueCfgScale > 1 ? { negative_prompt: job.negativePrompt, true_cfg_scale: String(job.trueCfgScale) } : {}),
    model,
    seed: String(job.seed),
    steps: String(job.steps),
    ...(job.guidance === null ? {} : { guidance: String(job.guidance) }),
    ...(job.strength === null ? {} : { strength: String(job.strength) }),
    size: `${job.width}x${job.height}`,
  };
}

export async function writePicture(
  job: PictureJob,
  model: string,
  image: RgbImage,
): Promise<{ readonly files: readonly SpoolFile[]; readonly encodeMs: number }> {
  const startedAt = performance.now();
  const files = await encodeImage(image, { outDir: job.outDir, metadata: pictureTexts(job, model) });
  return { files, encodeMs: performance.now() - startedAt };
}
