import type { Feed } from "../backend.ts";
import { Decoding, type DecoderEdges } from "./decoding.ts";
import type { FloatType } from "./float-edge.ts";
import { bindInput, bindOutput, FLOATS, requireOnly, requireSize, type Graph } from "./graph-edge.ts";
import type { CachePair } from "./kv-cache.ts";

/** As the model's config.json gives them. */
export interface DecoderSizes {
  readonly layers: number;
  readonly heads: number;
  readonly headSize: number;
  /** Different ids. */
  readonly vocabulary: number;
}

/**
 * A text decoder with its cache in one graph: a branch for the first ids and one for each later id, which takes keys and values of what
 * was before. Roles are named as in Optimum's `decoder_model_merged.onnx`.
 */
export class MergedDecoder {
  readonly #graph: Graph;
  readonly #sizes: DecoderSizes;
  readonly #edges: DecoderEdges;

  /** @param masked whether the graph takes a mask of the encoder's output */
  constructor(graph: Graph, sizes: DecoderSizes, masked: boolean) {
    const logits = bindOutput(graph, { role: "logits", types: FLOATS, ranks: [3] });
    requireSize(graph, logits, 2, sizes.vocabulary, "the vocabulary that config.json gives");
    this.#graph = graph;
    this.#sizes = sizes;
    this.#edges = {
      ids: bindInput(graph, { role: "input_ids", types: ["int64"], ranks: [2] }),
      hidden: bindInput(graph, { role: "encoder_hidden_states", types: FLOATS, ranks: [3] }),
      mask: masked ? bindInput(graph, { role: "encoder_attention_mask", types: ["int64", "int32"], ranks: [2] }) : null,
      useCache: bindInput(graph, { role: "use_cache_branch", types: ["bool"], ranks: [1] }),
      logits,
      ofText: cachePairs(graph, sizes, "decoder"),
      ofEncoder: cachePairs(graph, sizes, "encoder"),
    };
    const { ids, hidden, mask, useCache, ofText, ofEncoder } = this.#edges;
    requireOnly(graph, [ids, hidden, mask, useCache, ...[...ofText, ...ofEncoder].map(({ past }) => past)]);
  }

  /** What the graph takes the encoder's output as: a device tensor has to be of this type. */
  get hiddenType(): FloatType {
    return this.#edges.hidden.type;
  }

  /**
   * Begins a sequence; whoever begins it disposes of it.
   * @param hidden `[rows, tokens, width]` of the encoder, which stays the caller's. @param mask 1 for each token that counts, all rows; all of them by default
   */
  begin(hidden: Feed, mask?: readonly number[]): Decoding {
    return new Decoding({ graph: this.#graph, edges: this.#edges, sizes: this.#sizes, hidden, mask });
  }
}

function cachePairs(graph: Graph, { layers, heads, headSize }: DecoderSizes, side: "decoder" | "encoder"): readonly CachePair[] {
  return Array.from({ length: layers }, (_, layer) =>
    ["key", "value"].map((kind) => {
      const past = bindInput(graph, { role: `past_key_values.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] });
      const present = bindOutput(graph, { role: `present.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] });
      requireSize(graph, past, 1, heads, "the decoder's attention heads that config.json gives");
      requireSize(graph, past, 3, headSize, "the decoder's width in config.json, divided by its heads");
      return { past, present };
    }),
  ).flat();
}
