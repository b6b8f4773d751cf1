import { eulerStep, guide } from "./euler.ts";
import type { FlowMatchSchedule } from "./flow-match-schedule.ts";

/** The transformer with all that stays the same over the steps of a batch; to be disposed of after the last one. */
export interface RowVelocity extends Disposable {
  /**
   * @param latents packed `[rows, tokens, features]` of the rows that are left @param timestep 0..1
   * @returns velocity, same shape; valid until the next step
   */
  step(latents: Float32Array, timestep: number): Promise<Float32Array>;
  /** Removes a row; those behind it move up. */
  dropRow(row: number): void;
}

/**
 * Latents of a batch on their way from noise to picture, packed `[rows, tokens, features]`. Rows are pictures; one can be dropped between
 * steps without touching the others.
 */
export class RowDenoising implements Disposable {
  readonly #schedule: FlowMatchSchedule;
  readonly #rowSize: number;
  readonly #conditioned: RowVelocity;
  readonly #negative: RowVelocity | null;
  readonly #trueCfgScale: number;
  #latents: Float32Array;

  constructor(options: {
    readonly schedule: FlowMatchSchedule;
    readonly latents: Float32Array;
    readonly rowSize: number;
    readonly conditioned: RowVelocity;
    /** Runs as well, for the negative prompts, when classifier-free guidance is on. */
    readonly negative: RowVelocity | null;
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
    if (this.#negative !== null) guide(velocity, await this.#negative.step(this.#latents, timestep), this.#trueCfgScale);
    return velocity;
  }

  advance(index: number, velocity: Float32Array): void {
    const { sigmas } = this.#schedule;
    eulerStep(this.#latents, velocity, sigmas[index + 1]! - sigmas[index]!);
  }

  /** Removes a row; those behind it move up. */
  dropRow(index: number): void {
    this.#latents.copyWithin(index * this.#rowSize, (index + 1) * this.#rowSize);
    this.#latents = this.#latents.subarray(0, this.#latents.length - this.#rowSize);
    this.#conditioned.dropRow(index);
    this.#negative?.dropRow(index);
  }

  /** Gives back what the steps needed; the latents stay. */
  [Symbol.dispose](): void {
    this.#conditioned[Symbol.dispose]();
    this.#negative?.[Symbol.dispose]();
  }
}
