import type { Tensor } from "../backend.ts";
import type { LatentShape } from "../diffusion/latents.ts";
import type { RowVelocity } from "../diffusion/row-denoising.ts";
import { BoundRun, type Feeds } from "../graph/bound-run.ts";
import { emptyFloats, floatTensor, joinFloats, readFloatData, toFloatData, writeFloatData, type FloatData } from "../graph/float-edge.ts";
import { idTensor, type Edge, type IdType } from "../graph/graph-edge.ts";
import type { PromptEmbedding } from "./prompt-encoder.ts";
import type { FluxTransformer } from "./transformer.ts";

/**
 * The steps of one batch: texts, guidance and positions are given to the session once, and again when a row leaves; a step gives latents
 * and timestep, and its velocity comes into memory that is kept. A graph for a batch of 1 is bound once a row.
 */
export class TransformerRun implements RowVelocity {
  readonly #transformer: FluxTransformer;
  /** A row each, of those that are left. */
  readonly #embeddings: PromptEmbedding[];
  readonly #guidance: number;
  readonly #tokens: number;
  readonly #imageIds: Int32Array;
  /** Null where the graph takes float32: then the caller's latents are fed as they are. */
  readonly #halves: FloatData | null;
  readonly #timestep: FloatData;
  /** Where the graph writes; the same memory as the one below where that is float32. */
  readonly #written: FloatData;
  readonly #velocity: Float32Array;
  /** Of all rows together, or of each by itself; none before the first step and after a row has left. */
  #runs: readonly BoundRun[] = [];

  /** A row per embedding. */
  constructor(transformer: FluxTransformer, { height, width }: LatentShape, embeddings: readonly PromptEmbedding[], guidance: number) {
    const { hidden, velocity, timestep, features } = transformer;
    const [gridHeight, gridWidth] = [height / 2, width / 2];
    this.#transformer = transformer;
    this.#embeddings = [...embeddings];
    this.#guidance = guidance;
    this.#tokens = gridHeight * gridWidth;
    this.#imageIds = gridIds(gridHeight, gridWidth);
    const size = embeddings.length * this.#tokens * features;
    this.#halves = hidden.type === "float16" ? emptyFloats("float16", size) : null;
    this.#timestep = emptyFloats(timestep.type, embeddings.length);
    this.#velocity = new Float32Array(size);
    this.#written = velocity.type === "float16" ? emptyFloats("float16", size) : this.#velocity;
  }

  async step(latents: Float32Array, timestep: number): Promise<Float32Array> {
    const { hidden, timestep: time, features } = this.#transformer;
    if (this.#runs.length === 0) this.#runs = this.#bindRows();
    writeFloatData(new Float32Array(this.#timestep.length).fill(timestep), this.#timestep);
    if (this.#halves !== null) writeFloatData(latents, this.#halves.subarray(0, latents.length));
    const values = this.#halves ?? latents;
    const rows = this.#rowsOfRun();
    for (const [index, run] of this.#runs.entries()) {
      await run.run({
        [hidden.name]: floatTensor(hidden.type, rowsOf(values, index, rows * this.#tokens * features), [rows, this.#tokens, features]),
        [time.name]: floatTensor(time.type, rowsOf(this.#timestep, index, rows), [rows]),
      });
    }
    const velocity = this.#velocity.subarray(0, latents.length);
    readFloatData(this.#written.subarray(0, latents.length), velocity);
    return velocity;
  }

  dropRow(row: number): void {
    this.#embeddings.splice(row, 1);
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const run of this.#runs) run[Symbol.dispose]();
    this.#runs = [];
  }

  #rowsOfRun(): number {
    return this.#transformer.batched ? this.#embeddings.length : 1;
  }

  #bindRows(): readonly BoundRun[] {
    const rows = this.#rowsOfRun();
    const runs: BoundRun[] = [];
    try {
      for (let first = 0; first < this.#embeddings.length; first += rows) runs.push(this.#bind(first, rows));
      return runs;
    } catch (thrown) {
      for (const run of runs) run[Symbol.dispose]();
      throw thrown;
    }
  }

  #bind(first: number, rows: number): BoundRun {
    const { graph, velocity, features } = this.#transformer;
    const dims = [rows, this.#tokens, features];
    const written = rowsOf(this.#written, first / rows, rows * this.#tokens * features);
    const fixed = this.#fixedFeeds(this.#embeddings.slice(first, first + rows));
    return new BoundRun({ graph, fixed, output: velocity, into: floatTensor(velocity.type, written, dims) });
  }

  /** What all steps have in common. */
  #fixedFeeds(embeddings: readonly PromptEmbedding[]): Feeds {
    const { sequence, pooled, guidance, imageIds, textIds } = this.#transformer;
    const rows = embeddings.length;
    const { sequenceShape, pooled: vector } = embeddings[0]!;
    const sequences = joinFloats(embeddings.map((each) => each.sequence));
    const vectors = joinFloats(embeddings.map((each) => each.pooled));
    const feeds: Record<string, Tensor> = {
      [sequence.name]: floatTensor(sequence.type, sequences, [rows, ...sequenceShape]),
      [pooled.name]: floatTensor(pooled.type, vectors, [rows, vector.length]),
      [imageIds.name]: positionIds(imageIds, this.#imageIds, rows),
      [textIds.name]: positionIds(textIds, new Int32Array(sequenceShape[0] * 3), rows),
    };
    if (guidance !== null) {
      const values = new Float32Array(rows).fill(this.#guidance);
      feeds[guidance.name] = floatTensor(guidance.type, toFloatData(values, guidance.type), [rows]);
    }
    return feeds;
  }
}

/** Part `index` of values that are split into parts of one size. */
function rowsOf(values: FloatData, index: number, size: number): FloatData {
  return values.subarray(index * size, (index + 1) * size);
}

/** `[0, row, column]` of every latent token, row-major. */
export function gridIds(height: number, width: number): Int32Array {
  const ids = new Int32Array(height * width * 3);
  for (let token = 0; token < height * width; token++) {
    ids[token * 3 + 1] = Math.floor(token / width);
    ids[token * 3 + 2] = token % width;
  }
  return ids;
}

/** Rank 2 for diffusers from 0.31 on; before, and in some layouts, one copy per row. */
function positionIds(edge: Edge<IdType>, ids: Int32Array, copies: number): Tensor {
  const tokens = ids.length / 3;
  if (edge.dims.length === 2) return idTensor(edge.type, ids, [tokens, 3]);
  const repeated = new Int32Array(ids.length * copies);
  for (let copy = 0; copy < copies; copy++) repeated.set(ids, copy * ids.length);
  return idTensor(edge.type, repeated, [copies, tokens, 3]);
}
