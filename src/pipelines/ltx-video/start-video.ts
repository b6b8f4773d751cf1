import type { TorchRandom } from "../diffusion/torch-random.ts";
import { packVideo, sizeOf, tokensOf, type VideoShape } from "./video-latents.ts";

export interface StartOptions {
  readonly random: TorchRandom;
  readonly shape: VideoShape;
  readonly mode: "classic" | "condition";
  /** Parameters of the first frame's normalised latents, `[2 * channels, 1, height, width]`; null: none is given. */
  readonly first: Float32Array | null;
  /** The same for the last frame; `condition` only. */
  readonly last: Float32Array | null;
}

export interface StartedVideo {
  /** `[tokens, channels]`: the last frame where given, then the clip. */
  readonly latents: Float32Array;
  /** Tokens from the start that are given. */
  readonly given: number;
}

/**
 * Noise, with given pictures in place. The order of the draws is the pipelines': LTXImageToVideoPipeline samples the picture first, then
 * draws the noise; LTXConditionPipeline the other way round, and draws noise once more for a picture at a later frame, to no effect.
 */
export function startVideo({ random, shape, mode, first, last }: StartOptions): StartedVideo {
  const area = shape.height * shape.width;
  const early = mode === "classic" && first !== null ? sample(random, first) : null;
  const noise = random.randn(sizeOf(shape));
  const start = early ?? (first === null ? null : sample(random, first));
  if (start !== null) placeFirst(start, noise, shape);
  const extra = last === null ? 0 : area;
  const latents = new Float32Array((extra + tokensOf(shape)) * shape.channels);
  if (last !== null) {
    packVideo(sample(random, last), { ...shape, frames: 1 }, latents);
    random.randn(area * shape.channels);
  }
  packVideo(noise, shape, latents.subarray(extra * shape.channels));
  return { latents, given: extra + (start === null ? 0 : area) };
}

/** A draw from a posterior: mean + deviation * noise, `[channels, 1, height, width]`. */
function sample(random: TorchRandom, parameters: Float32Array): Float32Array {
  const size = parameters.length / 2;
  const values = random.randn(size);
  for (let i = 0; i < size; i++) {
    const deviation = Math.fround(Math.exp(Math.fround(0.5 * parameters[size + i]!)));
    values[i] = parameters[i]! + Math.fround(deviation * values[i]!);
  }
  return values;
}

function placeFirst(frame: Float32Array, clip: Float32Array, { channels, frames, height, width }: VideoShape): void {
  const area = height * width;
  for (let channel = 0; channel < channels; channel++) {
    clip.set(frame.subarray(channel * area, (channel + 1) * area), channel * frames * area);
  }
}
