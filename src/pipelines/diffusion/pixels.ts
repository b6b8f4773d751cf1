import type { RgbImage } from "../media/rgb-image.ts";

/** Pixels of a decoded picture, channels first `[3, height, width]`, about -1..1. */
export interface DecodedPixels {
  readonly data: Float32Array;
  readonly height: number;
  readonly width: number;
}

/** Bytes -> `[3, height, width]`, -1..1, with diffusers' float32 rounding. */
export function fromPixels({ data, width, height }: RgbImage): Float32Array {
  const area = width * height;
  const values = new Float32Array(area * 3);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let color = 0; color < 3; color++) values[color * area + pixel] = 2 * Math.fround(data[pixel * 3 + color]! / 255) - 1;
  }
  return values;
}

/** The inverse; null when a value is not finite (a graph in float16 that overflowed gives such). */
export function toPixels({ data, width, height }: DecodedPixels): RgbImage | null {
  const area = width * height;
  const bytes = toBytes(data, { area, first: 0, stride: area });
  return bytes === null ? null : { width, height, data: bytes };
}

/** Where the three colours of a picture lie: `area` values each, red from `first` on, the next ones `stride` values later. */
export interface Planes {
  readonly area: number;
  readonly first: number;
  readonly stride: number;
}

/** Values of about -1..1 -> bytes `[area, 3]`, rounded as diffusers does; null when one is not finite. */
export function toBytes(data: Float32Array, { area, first, stride }: Planes): Uint8Array | null {
  const bytes = new Uint8Array(area * 3);
  // 0 as long as all are finite, then NaN for good: cheaper than a test per value.
  let doubt = 0;
  for (let color = 0; color < 3; color++) {
    const plane = first + color * stride;
    let at = color;
    for (let pixel = plane; pixel < plane + area; pixel++) {
      const value = data[pixel]!;
      doubt += value - value;
      const scaled = Math.fround(Math.fround(value * 0.5) + 0.5) * 255 + 0.5;
      bytes[at] = scaled < 0 ? 0 : scaled > 255 ? 255 : scaled | 0;
      at += 3;
    }
  }
  return Number.isNaN(doubt) ? null : bytes;
}
