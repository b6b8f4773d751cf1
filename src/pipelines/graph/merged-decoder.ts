import { AppError } from "../../protocol/error.ts";
import type { Tensor } from "../backend.ts";
import { asFloat32, floatDataOf, floatTensor, toFloatData, type FloatType } from "./float-edge.ts";
import {
  bindInput,
  bindOutput,
  FLOATS,
  idTensor,
  outputOf,
  requireOnly,
  requireSize,
  type Edge,
  type Graph,
  type IdType,
} from "./graph-edge.ts";

/** As the model's config.json gives them. */
export interface DecoderSizes {
  readonly layers: number;
  readonly heads: number;
  readonly headSize: number;
  /** Different ids. */
  readonly vocabulary: number;
}

/** What the next ids depend on: the encoder's output, and keys and values of it (made once) and of the ids so far. */
export interface DecoderState {
  readonly hidden: Tensor;
  /** Null for a graph that takes none. */
  readonly mask: Tensor | null;
  /** Input name -> tensor; null before the first step. */
  readonly past: Readonly<Record<string, Tensor>> | null;
}

export interface DecoderStep {
  /** `[rows * ids, vocabulary]`, of the ids of this step. */
  readonly logits: Float32Array;
  readonly state: DecoderState;
}

interface CachePair {
  readonly past: Edge<FloatType>;
  readonly present: Edge<FloatType>;
  /** Of the encoder's output: given once by the first step, later steps return only placeholders. */
  readonly ofEncoder: boolean;
}

/**
 * A text decoder with its cache in one graph: a branch for the first ids and one for each later id, which takes keys and values of what
 * was before. Roles are named as in Optimum's `decoder_model_merged.onnx`.
 */
export class MergedDecoder {
  readonly #graph: Graph;
  readonly #sizes: DecoderSizes;
  readonly #ids: Edge<"int64">;
  readonly #hidden: Edge<FloatType>;
  readonly #mask: Edge<IdType> | null;
  readonly #useCache: Edge<"bool">;
  readonly #logits: Edge<FloatType>;
  readonly #cache: readonly CachePair[];

  /** @param masked whether the graph takes a mask of the encoder's output */
  constructor(graph: Graph, sizes: DecoderSizes, masked: boolean) {
    this.#graph = graph;
    this.#sizes = sizes;
    this.#ids = bindInput(graph, { role: "input_ids", types: ["int64"], ranks: [2] });
    this.#hidden = bindInput(graph, { role: "encoder_hidden_states", types: FLOATS, ranks: [3] });
    this.#mask = masked ? bindInput(graph, { role: "encoder_attention_mask", types: ["int64", "int32"], ranks: [2] }) : null;
    this.#useCache = bindInput(graph, { role: "use_cache_branch", types: ["bool"], ranks: [1] });
    this.#logits = bindOutput(graph, { role: "logits", types: FLOATS, ranks: [3] });
    requireSize(graph, this.#logits, 2, sizes.vocabulary, "the vocabulary that config.json gives");
    this.#cache = Array.from({ length: sizes.layers }, (_, layer) =>
      ["decoder", "encoder"].flatMap((side) =>
        ["key", "value"].map((kind) => {
          const past = bindInput(graph, { role: `past_key_values.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] });
          const present = bindOutput(graph, { role: `present.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] });
          requireSize(graph, past, 1, sizes.heads, "the decoder's attention heads that config.json gives");
          requireSize(graph, past, 3, sizes.headSize, "the decoder's width in config.json, divided by its heads");
          return { past, present, ofEncoder: side === "encoder" };
        }),
      ),
    ).flat();
    requireOnly(graph, [this.#ids, this.#hidden, this.#mask, this.#useCache, ...this.#cache.map(({ past }) => past)]);
  }

  /** @param hidden `[rows, tokens, width]` of the encoder. @param mask 1 for each token that counts, all rows; all of them by default */
  begin(hidden: Tensor, mask?: readonly number[]): DecoderState {
    const [rows = 1, tokens = 0] = hidden.dims;
    const ones = (): readonly number[] => Array.from({ length: rows * tokens }, () => 1);
    return {
      hidden: floatTensor(this.#hidden.type, floatDataOf(hidden, this.#hidden.type), hidden.dims),
      mask: this.#mask === null ? null : idTensor(this.#mask.type, mask ?? ones(), [rows, tokens]),
      past: null,
    };
  }

  /**
   * Adds ids to each row. The first step takes any number of them, each later one exactly one.
   * @throws AppError BAD_OUTPUT when the logits are no numbers
   */
  async step({ hidden, mask, past }: DecoderState, ids: readonly (readonly number[])[]): Promise<DecoderStep> {
    const added = ids[0]?.length ?? 0;
    if (past !== null && added !== 1) throw new TypeError(`${added} ids for a later step: this is a bug`);
    const results = await this.#graph.session.run({
      [this.#ids.name]: idTensor("int64", ids.flat(), [ids.length, added]),
      [this.#hidden.name]: hidden,
      ...(this.#mask !== null && mask !== null && { [this.#mask.name]: mask }),
      [this.#useCache.name]: { type: "bool", data: Uint8Array.of(past === null ? 0 : 1), dims: [1] },
      ...(past ?? this.#emptyPast(hidden.dims[0] ?? 1)),
    });
    const present: Record<string, Tensor> = {};
    for (const pair of this.#cache) {
      const kept = pair.ofEncoder ? past?.[pair.past.name] : undefined;
      present[pair.past.name] = kept ?? outputOf(results, pair.present, this.#graph.part);
    }
    const logits = asFloat32(outputOf(results, this.#logits, this.#graph.part));
    if (!logits.every((value) => !Number.isNaN(value)))
      throw new AppError(
        "BAD_OUTPUT",
        `part ${this.#graph.part}: the logits hold NaN: the graph's precision does not suffice on this device`,
      );
    return { logits, state: { hidden, mask, past: present } };
  }

  #emptyPast(rows: number): Record<string, Tensor> {
    const { heads, headSize } = this.#sizes;
    const empty = ({ past }: CachePair): [string, Tensor] => {
      const data = toFloatData(new Float32Array(0), past.type);
      return [past.name, floatTensor(past.type, data, [rows, heads, 0, headSize])];
    };
    return Object.fromEntries(this.#cache.map(empty));
  }
}
