import sharp from "sharp";
import { MAX_PREVIEW_BYTES } from "../../protocol/event.ts";
import type { LatentRgb } from "./latent-rgb.ts";
import type { LatentShape } from "./latents.ts";

export const MAX_PREVIEW_SIDE = 256;
const FIRST_QUALITY = 75;
const QUALITY_STEP = 15;

/**
 * What the x0 estimate looks like, as a small JPEG: `x0 = x - sigma * v`, mapped to colours per latent pixel (8 x 8 picture pixels),
 * at most 256 px a side and 16 KiB. Holds its buffers, so that a step allocates nothing but its colours and the JPEG.
 */
export class LatentPreview {
  readonly #shape: LatentShape;
  readonly #table: LatentRgb;
  readonly #rgb: Uint8Array;
  readonly #factors: Float64Array;

  constructor(shape: LatentShape, table: LatentRgb) {
    if (table.factors.length !== shape.channels) {
      throw new RangeError(`the preview table has ${table.factors.length} channels, the latents have ${shape.channels}: this is a bug`);
    }
    this.#shape = shape;
    this.#table = table;
    this.#rgb = new Uint8Array(shape.height * shape.width * 3);
    this.#factors = Float64Array.from(table.factors.flat());
  }

  /**
   * Reads its arguments at once and encodes beside whatever runs next: nobody needs to wait for it.
   * @param latents packed `[tokens, features]`, before the step. @param velocity the model's output of that step, same shape.
   */
  render(latents: Float32Array, velocity: Float32Array, sigma: number): Promise<Uint8Array> {
    const { width, height } = this.#shape;
    return jpegWithin(this.paint(latents, velocity, sigma).slice(), width, height, MAX_PREVIEW_BYTES);
  }

  /** The colours alone, `[height, width, 3]`, 0..255; valid until the next call. */
  paint(latents: Float32Array, velocity: Float32Array, sigma: number): Uint8Array {
    const { channels, height, width } = this.#shape;
    const factors = this.#factors;
    const [biasRed, biasGreen, biasBlue] = this.#table.bias;
    const rgb = this.#rgb;
    const columns = width / 2;
    let out = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let at = ((y >> 1) * columns + (x >> 1)) * channels * 4 + (y & 1) * 2 + (x & 1);
        let red = biasRed;
        let green = biasGreen;
        let blue = biasBlue;
        for (let row = 0; row < channels * 3; row += 3, at += 4) {
          const value = latents[at]! - sigma * velocity[at]!;
          red += value * factors[row]!;
          green += value * factors[row + 1]!;
          blue += value * factors[row + 2]!;
        }
        rgb[out++] = toByte(red);
        rgb[out++] = toByte(green);
        rgb[out++] = toByte(blue);
      }
    }
    return rgb;
  }
}

/** -1..1 -> 0..255; NaN stays, and a byte array stores it as 0. */
export function toByte(value: number): number {
  const scaled = (value + 1) * 127.5;
  return Math.min(255, Math.max(0, scaled));
}

/** A JPEG of at most `maxBytes`: quality falls until it fits. The last resort is quality 15 at half the size, then a quarter ... */
export async function jpegWithin(rgb: Uint8Array, width: number, height: number, maxBytes: number): Promise<Uint8Array> {
  let side = Math.min(MAX_PREVIEW_SIDE, Math.max(width, height));
  for (let quality = FIRST_QUALITY; ; quality -= QUALITY_STEP) {
    if (quality <= 0) {
      quality = QUALITY_STEP;
      side = Math.max(1, side >> 1);
    }
    let image = sharp(rgb, { raw: { width, height, channels: 3 } });
    if (side < Math.max(width, height)) image = image.resize(side, side, { fit: "inside" });
    const jpeg = await image.jpeg({ quality }).toBuffer();
    if (jpeg.length <= maxBytes) return jpeg;
    if (side === 1) throw new RangeError(`a 1 px preview is ${jpeg.length} bytes, the limit is ${maxBytes}: this is a bug`);
  }
}
