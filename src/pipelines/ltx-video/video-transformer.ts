import { AppError } from "../../protocol/error.ts";
import type { Feeds } from "../graph/bound-run.ts";
import { floatTensor, joinFloats, toFloatData, type FloatType } from "../graph/float-edge.ts";
import {
  bindInput,
  bindOutput,
  FLOATS,
  idTensor,
  IDS,
  requireOnly,
  requireSize,
  type Edge,
  type Graph,
  type IdType,
} from "../graph/graph-edge.ts";
import type { RopeTables } from "./rope.ts";
import type { TextEmbedding } from "./video-prompts.ts";
import { VideoTransformerRun, type VideoVelocity } from "./video-transformer-run.ts";

export const LATENT_CHANNELS = 128;

/** What stays the same over all steps of a run. */
export interface VideoCondition {
  /** One per row: the prompt alone, or the negative prompt and the prompt. */
  readonly texts: readonly TextEmbedding[];
  readonly rope: RopeTables;
}

/** The LTX-Video transformer as one graph (scripts/export/ltx_graphs.py): velocity of packed latents at a noise level per token. */
export class VideoTransformer {
  readonly graph: Graph;
  readonly sequence: Edge<FloatType>;
  readonly hidden: Edge<FloatType>;
  readonly timestep: Edge<FloatType>;
  readonly velocity: Edge<FloatType>;
  readonly #mask: Edge<IdType>;
  readonly #cos: Edge<FloatType>;
  readonly #sin: Edge<FloatType>;
  /** Features of a token inside, which the rotary embedding is for. */
  readonly width: number;

  constructor(graph: Graph) {
    const float = (role: string, rank: number): Edge<FloatType> => bindInput(graph, { role, types: FLOATS, ranks: [rank] });
    this.graph = graph;
    this.hidden = float("hidden_states", 3);
    this.sequence = float("encoder_hidden_states", 3);
    this.#mask = bindInput(graph, { role: "encoder_attention_mask", types: IDS, ranks: [2] });
    this.timestep = float("timestep", 2);
    this.#cos = float("rope_cos", 3);
    this.#sin = float("rope_sin", 3);
    this.velocity = bindOutput(graph, { role: "out_hidden_states", types: FLOATS, ranks: [3] });
    requireOnly(graph, [this.hidden, this.sequence, this.#mask, this.timestep, this.#cos, this.#sin]);
    requireSize(graph, this.hidden, -1, LATENT_CHANNELS, "the autoencoder's latent channels");
    const half = this.#cos.dims.at(-1);
    if (typeof half !== "number") {
      throw new AppError("MODEL_UNSUPPORTED", `part ${graph.part}: the last axis of ${this.#cos.name} is ${half}, expected a number`);
    }
    this.width = half * 2;
  }

  /** Readies the steps of a clip. */
  open({ texts, rope }: VideoCondition): VideoVelocity {
    const rows = texts.length;
    const [first] = texts;
    if (first === undefined) throw new RangeError("a run without a text: this is a bug");
    const tokens = first.mask.length;
    const mask = Int32Array.from(texts.flatMap((text) => [...text.mask]));
    const fixed: Feeds = {
      [this.sequence.name]: floatTensor(this.sequence.type, joinFloats(texts.map(({ sequence }) => sequence)), [rows, tokens, first.width]),
      [this.#mask.name]: idTensor(this.#mask.type, mask, [rows, tokens]),
      [this.#cos.name]: floatTensor(this.#cos.type, toFloatData(rope.cos, this.#cos.type), [1, rope.tokens, this.width / 2]),
      [this.#sin.name]: floatTensor(this.#sin.type, toFloatData(rope.sin, this.#sin.type), [1, rope.tokens, this.width / 2]),
    };
    return new VideoTransformerRun(this, fixed, [rows, rope.tokens, LATENT_CHANNELS]);
  }
}
