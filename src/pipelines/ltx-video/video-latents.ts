/** A latent clip, channels first: `[channels, frames, height, width]`, row-major. */
export interface VideoShape {
  readonly channels: number;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

/** Sample frames per latent frame but the first, which stands for one alone; sample pixels per latent pixel. */
export const FRAME_FACTOR = 8;
export const PIXEL_FACTOR = 32;

/** Tokens of the packed form `[tokens, channels]`: one per latent pixel; frame by frame, then row by row. */
export function tokensOf({ frames, height, width }: VideoShape): number {
  return frames * height * width;
}

export function sizeOf(shape: VideoShape): number {
  return shape.channels * tokensOf(shape);
}

/** `[channels, frames, height, width]` -> `[tokens, channels]` (diffusers' `LTXPipeline._pack_latents` with patches of 1). */
export function packVideo(latents: Float32Array, shape: VideoShape, packed: Float32Array): void {
  const tokens = tokensOf(shape);
  let at = 0;
  for (let channel = 0; channel < shape.channels; channel++) {
    for (let token = 0; token < tokens; token++) packed[token * shape.channels + channel] = latents[at++]!;
  }
}

/** The inverse, for `frames` latent frames from `first` on: `[channels, frames, height, width]`. */
export function unpackFrames(packed: Float32Array, shape: VideoShape, first: number, frames: number): Float32Array {
  const { channels, height, width } = shape;
  const area = height * width;
  const count = frames * area;
  const planes = new Float32Array(channels * count);
  let at = first * area * channels;
  for (let token = 0; token < count; token++) {
    for (let channel = 0; channel < channels; channel++) planes[channel * count + token] = packed[at++]!;
  }
  return planes;
}

/** Some frames of `[channels, frames, height, width]` by themselves. */
export function sliceFrames(planes: Float32Array, shape: VideoShape, first: number, frames: number): Float32Array {
  const area = shape.height * shape.width;
  const count = frames * area;
  const some = new Float32Array(shape.channels * count);
  for (let channel = 0; channel < shape.channels; channel++) {
    const at = (channel * shape.frames + first) * area;
    some.set(planes.subarray(at, at + count), channel * count);
  }
  return some;
}

/** Latent frames of a clip of 8k + 1 sample frames. */
export function latentFrames(frames: number): number {
  return (frames - 1) / FRAME_FACTOR + 1;
}

/** The nearest 8k + 1: what the autoencoder can give. */
export function nearestFrames(frames: number): number {
  return Math.round((frames - 1) / FRAME_FACTOR) * FRAME_FACTOR + 1;
}
