/** A latent picture, channels first: `[channels, height, width]`, row-major. Both sides even. */
export interface LatentShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** Tokens and features of the packed form, `[tokens, features]`: one token per 2 x 2 block, feature = channel * 4 + dy * 2 + dx. */
export function packedShape(shape: LatentShape): { readonly tokens: number; readonly features: number } {
  return { tokens: (shape.height / 2) * (shape.width / 2), features: shape.channels * 4 };
}

/** `[channels, height, width]` -> `[tokens, features]` (diffusers' `FluxPipeline._pack_latents`). */
export function packLatents(latents: Float32Array, shape: LatentShape, packed: Float32Array): void {
  const { channels, height, width } = shape;
  const columns = width / 2;
  const features = channels * 4;
  let at = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < height; y++) {
      const row = (y >> 1) * columns;
      const feature = channel * 4 + (y & 1) * 2;
      for (let x = 0; x < width; x++) packed[(row + (x >> 1)) * features + feature + (x & 1)] = latents[at++]!;
    }
  }
}

/** The inverse, with the decoder's scaling folded in: `value / scale + shift`. */
export function unpackLatents(packed: Float32Array, shape: LatentShape, latents: Float32Array, scale = 1, shift = 0): void {
  const { channels, height, width } = shape;
  const columns = width / 2;
  const features = channels * 4;
  let at = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < height; y++) {
      const row = (y >> 1) * columns;
      const feature = channel * 4 + (y & 1) * 2;
      for (let x = 0; x < width; x++) {
        latents[at++] = Math.fround(packed[(row + (x >> 1)) * features + feature + (x & 1)]! / scale) + shift;
      }
    }
  }
}
