import type { FlowMatchSchedule } from "../diffusion/flow-match-schedule.ts";
import type { TransformerRun } from "./transformer-run.ts";

/**
 * Latents of a batch on their way from noise to picture, packed `[rows, tokens, features]`. Rows are pictures; one can be dropped between
 * steps without touching the others.
 */
export class Denoising {
  readonly #schedule: FlowMatchSchedule;
  readonly #rowSize: number;
  readonly #conditioned: TransformerRun;
  readonly #negative: TransformerRun | null;
  readonly #trueCfgScale: number;
  #latents: Float32Array;

  constructor(options: {
    readonly schedule: FlowMatchSchedule;
    readonly latents: Float32Array;
    readonly rowSize: number;
    readonly conditioned: TransformerRun;
    /** Runs as well, for the negative prompts, when classifier-free guidance is on. */
    readonly negative: TransformerRun | null;
    readonly trueCfgScale: number;
  }) {
    this.#schedule = options.schedule;
    this.#latents = options.latents;
    this.#rowSize = options.rowSize;
    this.#conditioned = options.conditioned;
    this.#negative = options.negative;
    this.#trueCfgScale = options.trueCfgScale;
  }

  row(index: number): Float32Array {
    return this.#latents.subarray(index * this.#rowSize, (index + 1) * this.#rowSize);
  }

  /** The model's velocity at step `index`, all rows; valid until the next call. */
  async velocity(index: number): Promise<Float32Array> {
    const timestep = Math.fround(this.#schedule.timesteps[index]! / 1000);
    const velocity = await this.#conditioned.step(this.#latents, timestep);
    if (this.#negative === null) return velocity;
    const negative = await this.#negative.step(this.#latents, timestep);
    for (let i = 0; i < velocity.length; i++)
      velocity[i] = negative[i]! + Math.fround(this.#trueCfgScale * Math.fround(velocity[i]! - negative[i]!));
    return velocity;
  }

  /** Euler: `x += (sigma of the next step - sigma) * velocity`. */
  advance(index: number, velocity: Float32Array): void {
    const { sigmas } = this.#schedule;
    const delta = Math.fround(sigmas[index + 1]! - sigmas[index]!);
    const latents = this.#latents;
    for (let i = 0; i < latents.length; i++) latents[i] = latents[i]! + Math.fround(delta * velocity[i]!);
  }

  /** Removes a row; those behind it move up. */
  dropRow(index: number): void {
    this.#latents.copyWithin(index * this.#rowSize, (index + 1) * this.#rowSize);
    this.#latents = this.#latents.subarray(0, this.#latents.length - this.#rowSize);
    this.#conditioned.dropRow(index);
    this.#negative?.dropRow(index);
  }
}
