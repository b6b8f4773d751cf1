import { eulerStep, guide } from "../diffusion/euler.ts";
import type { FlowMatchSchedule } from "../diffusion/flow-match-schedule.ts";
import type { TorchRandom } from "../diffusion/torch-random.ts";
import type { VideoVelocity } from "./video-transformer-run.ts";

export interface VideoDenoisingOptions {
  readonly schedule: FlowMatchSchedule;
  /** `[tokens, channels]`; given pictures first. */
  readonly latents: Float32Array;
  readonly channels: number;
  /** Tokens from the start that are given, not made: they stay, at noise level 0. */
  readonly given: number;
  readonly velocity: VideoVelocity;
  /** Above 1 the velocity has two rows, of the negative prompt and of the prompt. */
  readonly guidance: number;
  /** Draws fresh noise onto the given tokens before each step; null: none. */
  readonly givenNoise: { readonly random: TorchRandom; readonly scale: number } | null;
}

/** A clip on its way from noise to picture: Euler steps of diffusers' LTX pipelines. */
export class VideoDenoising {
  readonly latents: Float32Array;
  readonly #options: VideoDenoisingOptions;
  readonly #timesteps: Float32Array;
  readonly #start: Float32Array;

  constructor(options: VideoDenoisingOptions) {
    this.#options = options;
    this.latents = options.latents;
    this.#timesteps = new Float32Array(options.latents.length / options.channels);
    this.#start = options.latents.slice(0, options.given * options.channels);
  }

  /** The model's velocity at step `index`, `[tokens, channels]`, with guidance. */
  async velocity(index: number): Promise<Float32Array> {
    const { schedule, given, velocity, guidance } = this.#options;
    const timestep = schedule.timesteps[index]!;
    this.#addNoise(timestep);
    this.#timesteps.fill(timestep, given);
    const rows = await velocity.step(this.latents, this.#timesteps);
    if (guidance <= 1) return rows;
    const negative = rows.subarray(0, this.latents.length);
    const positive = rows.subarray(this.latents.length);
    guide(positive, negative, guidance);
    return positive;
  }

  /** `x += (noise level of the next step - noise level) * velocity`, where the clip is made. */
  advance(index: number, velocity: Float32Array): void {
    const { schedule, given, channels } = this.#options;
    eulerStep(this.latents, velocity, schedule.sigmas[index + 1]! - schedule.sigmas[index]!, given * channels);
  }

  /** diffusers' `add_noise_to_image_conditioning_latents`: draws for all tokens, keeps what falls on the given ones. */
  #addNoise(timestep: number): void {
    const { givenNoise, given } = this.#options;
    if (givenNoise === null || given === 0) return;
    const noise = givenNoise.random.randn(this.latents.length);
    const level = Math.fround(timestep / 1000);
    const square = Math.fround(level * level);
    for (let i = 0; i < this.#start.length; i++) {
      this.latents[i] = this.#start[i]! + Math.fround(Math.fround(givenNoise.scale * noise[i]!) * square);
    }
  }
}
