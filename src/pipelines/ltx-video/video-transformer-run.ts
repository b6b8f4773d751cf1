import { BoundRun, emptyTensor, type Feeds } from "../graph/bound-run.ts";
import { emptyFloats, floatTensor, readFloatData, writeFloatData, type FloatData, type FloatType } from "../graph/float-edge.ts";
import type { Tensor } from "../backend.ts";
import type { Edge } from "../graph/graph-edge.ts";
import type { VideoTransformer } from "./video-transformer.ts";

/** The transformer with all that stays the same over the steps of a clip; to be disposed of after the last one. */
export interface VideoVelocity extends Disposable {
  /**
   * @param latents `[tokens, channels]`, the same for each row @param timesteps `[tokens]`, 0..1000
   * @returns `[rows, tokens, channels]`; valid until the next step
   */
  step(latents: Float32Array, timesteps: Float32Array): Promise<Float32Array>;
}

/** The steps of one clip: what they have in common is given to the session once, the velocity comes into memory that is kept. */
export class VideoTransformerRun implements VideoVelocity {
  readonly #run: BoundRun;
  readonly #hidden: PerRow;
  readonly #timestep: PerRow;
  readonly #velocity: Float32Array;

  constructor(transformer: VideoTransformer, fixed: Feeds, dims: readonly [rows: number, tokens: number, channels: number]) {
    const { graph, hidden, timestep, velocity } = transformer;
    this.#hidden = perRow(hidden, dims);
    this.#timestep = perRow(timestep, [dims[0], dims[1]]);
    const into = emptyTensor(velocity.type, dims);
    this.#velocity = into.type === "float32" ? into.data : new Float32Array(into.data.length);
    this.#run = new BoundRun({ graph, fixed, output: velocity, into });
  }

  async step(latents: Float32Array, timesteps: Float32Array): Promise<Float32Array> {
    const feeds = Object.fromEntries([this.#hidden(latents), this.#timestep(timesteps)]);
    readFloatData((await this.#run.run(feeds)).data as FloatData, this.#velocity);
    return this.#velocity;
  }

  [Symbol.dispose](): void {
    this.#run[Symbol.dispose]();
  }
}

/** Name and tensor of an input with the same values in each row. */
type PerRow = (values: Float32Array) => readonly [name: string, tensor: Tensor];

/** A lone row of float32 is fed where it is; else the rows are written into memory that is kept. */
function perRow({ name, type }: Edge<FloatType>, dims: readonly [rows: number, ...number[]]): PerRow {
  const [rows] = dims;
  if (rows === 1 && type === "float32") return (values) => [name, floatTensor(type, values, dims)];
  const size = dims.reduce((product, count) => product * count);
  const all: FloatData = emptyFloats(type, size);
  return (values) => {
    const length = size / rows;
    writeFloatData(values, all.subarray(0, length));
    for (let row = 1; row < rows; row++) all.copyWithin(row * length, 0, length);
    return [name, floatTensor(type, all, dims)];
  };
}
