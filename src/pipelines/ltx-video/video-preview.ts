import sharp from "sharp";
import { MAX_PREVIEW_BYTES } from "../../protocol/event.ts";
import type { LatentRgb } from "../diffusion/latent-rgb.ts";
import { jpegWithin, MAX_PREVIEW_SIDE, toByte } from "../diffusion/preview.ts";
import type { VideoShape } from "./video-latents.ts";

export interface PreviewSource {
  readonly shape: VideoShape;
  /** `[tokens, channels]` of the clip, before the step, and the model's velocity there. */
  readonly latents: Float32Array;
  readonly velocity: Float32Array;
  readonly sigma: number;
}

/**
 * What the middle of the clip looks like, as a small JPEG: `x0 = x - sigma * v` of one latent frame, mapped to colours and enlarged, since a
 * latent pixel stands for 32 x 32. Reads its arguments at once and encodes beside whatever runs next.
 */
export async function videoPreview(source: PreviewSource, table: LatentRgb): Promise<Uint8Array> {
  const { width, height } = source.shape;
  const small = paintFrame(source, table);
  const scale = MAX_PREVIEW_SIDE / Math.max(width, height);
  const size = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  const raw = { width, height, channels: 3 } as const;
  const large = await sharp(small, { raw }).resize(size.width, size.height, { fit: "fill", kernel: "cubic" }).raw().toBuffer();
  return jpegWithin(large, size.width, size.height, MAX_PREVIEW_BYTES);
}

/** Colours of the middle latent frame, `[height, width, 3]`, 0..255. */
export function paintFrame({ shape, latents, velocity, sigma }: PreviewSource, { factors, bias }: LatentRgb): Uint8Array {
  const area = shape.height * shape.width;
  const rgb = new Uint8Array(area * 3);
  let at = Math.floor(shape.frames / 2) * area * shape.channels;
  for (let pixel = 0; pixel < area; pixel++) {
    let [red, green, blue] = bias;
    for (const [forRed, forGreen, forBlue] of factors) {
      const value = latents[at]! - sigma * velocity[at]!;
      red += value * forRed;
      green += value * forGreen;
      blue += value * forBlue;
      at++;
    }
    rgb.set([toByte(red), toByte(green), toByte(blue)], pixel * 3);
  }
  return rgb;
}
