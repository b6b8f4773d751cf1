import { toBytes } from "../diffusion/pixels.ts";

/** Decoded frames, channels first: `[3, frames, height, width]`, about -1..1. */
export interface FrameBlock {
  readonly data: Float32Array;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** One frame as bytes, `[height, width, 3]`; null when a value is not finite. */
export function frameBytes({ data, frames, height, width }: FrameBlock, index: number): Uint8Array | null {
  const area = height * width;
  return toBytes(data, { area, first: index * area, stride: frames * area });
}

/** The last `count` frames, copied. */
export function lastFrames({ data, frames, height, width }: FrameBlock, end: number, count: number): FrameBlock {
  const area = height * width;
  const some = new Float32Array(3 * count * area);
  for (let color = 0; color < 3; color++) {
    const from = (color * frames + end - count) * area;
    some.set(data.subarray(from, from + count * area), color * count * area);
  }
  return { data: some, frames: count, height, width };
}

/** Fades from the last `extent` frames of `before` into the first of `block`, in place (diffusers' `blend_t`). */
export function blendInto(block: FrameBlock, before: FrameBlock, extent: number): void {
  const area = block.height * block.width;
  for (let frame = 0; frame < extent; frame++) {
    const old = Math.fround(1 - frame / extent);
    const fresh = Math.fround(frame / extent);
    for (let color = 0; color < 3; color++) {
      const to = (color * block.frames + frame) * area;
      const from = (color * before.frames + before.frames - extent + frame) * area;
      for (let i = 0; i < area; i++) {
        block.data[to + i] = Math.fround(before.data[from + i]! * old) + Math.fround(block.data[to + i]! * fresh);
      }
    }
  }
}
