import { packLatents, type LatentShape } from "./latents.ts";
import type { TorchRandom } from "./torch-random.ts";

/** Text-to-image starts from noise alone: `randn(channels, height, width)`, packed into `row`. */
export function startFromNoise(random: TorchRandom, shape: LatentShape, row: Float32Array): void {
  packLatents(random.randn(sizeOf(shape)), shape, row);
}

export interface Posterior {
  /** `[2 * channels, height, width]`: means, then logarithms of variances. */
  readonly parameters: Float32Array;
  readonly scale: number;
  readonly shift: number;
}

/**
 * Image-to-image starts between the encoded picture and noise: `sigma * noise + (1 - sigma) * z`, packed into `row`. The posterior is
 * sampled first, then the noise is drawn, from the same generator: swapped, a seed gives another picture (diffusers
 * pipeline_flux_img2img.py, prepare_latents).
 */
export function startFromImage(random: TorchRandom, shape: LatentShape, posterior: Posterior, sigma: number, row: Float32Array): void {
  const { parameters, scale, shift } = posterior;
  const size = sizeOf(shape);
  const latents = random.randn(size);
  for (let i = 0; i < size; i++) {
    const logVariance = Math.min(20, Math.max(-30, parameters[size + i]!));
    const deviation = Math.fround(Math.exp(Math.fround(0.5 * logVariance)));
    const sample = Math.fround(parameters[i]! + Math.fround(deviation * latents[i]!));
    latents[i] = Math.fround(sample - shift) * scale;
  }
  const noise = random.randn(size);
  const rest = Math.fround(1 - sigma);
  for (let i = 0; i < size; i++) latents[i] = Math.fround(sigma * noise[i]!) + Math.fround(rest * latents[i]!);
  packLatents(latents, shape, row);
}

function sizeOf({ channels, height, width }: LatentShape): number {
  return channels * height * width;
}
