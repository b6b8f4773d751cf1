import type { Tensor } from "../backend.ts";
import type { LatentShape } from "../diffusion/latents.ts";
import type { RowVelocity } from "../diffusion/row-denoising.ts";
import { asFloat32, floatTensor, joinFloats, writeFloatData, type FloatData, type FloatType } from "../graph/float-edge.ts";
import { idTensor, outputOf, type Edge, type IdType } from "../graph/graph-edge.ts";
import type { PromptEmbedding } from "./prompt-encoder.ts";
import type { FluxTransformer } from "./transformer.ts";

/** The memory of one batch's steps, made once: a step converts in place and allocates only what onnxruntime returns. */
export class TransformerRun implements RowVelocity {
  readonly #transformer: FluxTransformer;
  readonly #tokens: number;
  readonly #textTokens: number;
  readonly #features: number;
  readonly #sequenceWidth: number;
  readonly #pooledWidth: number;
  readonly #sequence: FloatData;
  readonly #pooled: FloatData;
  /** Null where the graph takes float32: then the caller's latents are fed as they are. */
  readonly #halves: Uint16Array | null;
  readonly #velocity: Float32Array;
  readonly #timestep: FloatData;
  readonly #guidance: FloatData;
  readonly #imageIds: Tensor;
  readonly #textIds: Tensor;
  #rows: number;

  /** A row per embedding. */
  constructor(transformer: FluxTransformer, { height, width }: LatentShape, embeddings: readonly PromptEmbedding[], guidance: number) {
    const { hidden, imageIds, textIds, velocity } = transformer;
    const [first] = embeddings;
    if (first === undefined) throw new RangeError("a run without a text: this is a bug");
    const rows = embeddings.length;
    const [gridHeight, gridWidth] = [height / 2, width / 2];
    this.#transformer = transformer;
    this.#tokens = gridHeight * gridWidth;
    this.#rows = rows;
    this.#features = transformer.features;
    [this.#textTokens, this.#sequenceWidth] = first.sequenceShape;
    this.#pooledWidth = first.pooled.length;
    this.#sequence = joinFloats(embeddings.map(({ sequence }) => sequence));
    this.#pooled = joinFloats(embeddings.map(({ pooled }) => pooled));
    const size = rows * this.#tokens * this.#features;
    this.#halves = hidden.type === "float16" ? new Uint16Array(size) : null;
    this.#velocity = new Float32Array(velocity.type === "float16" || !transformer.batched ? size : 0);
    this.#timestep = emptyFloats(transformer.timestep.type, rows);
    this.#guidance = emptyFloats(transformer.guidance?.type ?? "float32", rows);
    writeFloatData(new Float32Array(rows).fill(guidance), this.#guidance);
    const copies = transformer.batched ? rows : 1;
    this.#imageIds = positionIds(imageIds, gridIds(gridHeight, gridWidth), copies);
    this.#textIds = positionIds(textIds, new Int32Array(this.#textTokens * 3), copies);
  }

  async step(latents: Float32Array, timestep: number): Promise<Float32Array> {
    const { hidden, batched } = this.#transformer;
    writeFloatData(new Float32Array(this.#timestep.length).fill(timestep), this.#timestep);
    if (this.#halves !== null) writeFloatData(latents, this.#halves.subarray(0, latents.length));
    const values = this.#halves ?? latents;
    if (batched) return this.#runRows(values, hidden.type, 0, this.#rows);
    for (let row = 0; row < this.#rows; row++) await this.#runRows(values, hidden.type, row, 1);
    return this.#velocity.subarray(0, latents.length);
  }

  dropRow(row: number): void {
    moveUp(this.#sequence, row, this.#textTokens * this.#sequenceWidth);
    moveUp(this.#pooled, row, this.#pooledWidth);
    this.#rows--;
  }

  async #runRows(values: FloatData, type: FloatType, row: number, rows: number): Promise<Float32Array> {
    const { graph, hidden, sequence, pooled, timestep, guidance, imageIds, textIds, velocity, batched } = this.#transformer;
    const [tokens, textTokens] = [this.#tokens, this.#textTokens];
    const part = (data: FloatData, size: number): FloatData => data.subarray(row * size, (row + rows) * size);
    const feeds: Record<string, Tensor> = {
      [hidden.name]: floatTensor(type, part(values, tokens * this.#features), [rows, tokens, this.#features]),
      [sequence.name]: floatTensor(sequence.type, part(this.#sequence, textTokens * this.#sequenceWidth), [
        rows,
        textTokens,
        this.#sequenceWidth,
      ]),
      [pooled.name]: floatTensor(pooled.type, part(this.#pooled, this.#pooledWidth), [rows, this.#pooledWidth]),
      [timestep.name]: floatTensor(timestep.type, part(this.#timestep, 1), [rows]),
      [imageIds.name]: firstRows(this.#imageIds, rows),
      [textIds.name]: firstRows(this.#textIds, rows),
    };
    if (guidance !== null) feeds[guidance.name] = floatTensor(guidance.type, part(this.#guidance, 1), [rows]);
    const result = outputOf(await graph.session.run(feeds), velocity, graph.part);
    if (batched && result.type === "float32") return result.data;
    const target = this.#velocity.subarray(row * tokens * this.#features, (row + rows) * tokens * this.#features);
    target.set(
      result.type === "float16" ? new Float16Array(result.data.buffer, result.data.byteOffset, result.data.length) : asFloat32(result),
    );
    return target;
  }
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

function firstRows(ids: Tensor, rows: number): Tensor {
  const [copies = 0, tokens = 0] = ids.dims;
  if (ids.dims.length === 2 || copies === rows) return ids;
  return { ...ids, data: ids.data.subarray(0, rows * tokens * 3), dims: [rows, tokens, 3] } as Tensor;
}

function emptyFloats(type: FloatType, length: number): FloatData {
  return type === "float32" ? new Float32Array(length) : new Uint16Array(length);
}

function moveUp(data: FloatData, row: number, size: number): void {
  data.copyWithin(row * size, (row + 1) * size);
}
