import type { Tensor } from "../backend.ts";
import { floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, outputOf, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import { WINDOW_FRAMES } from "./feature-reader.ts";

/** Log-mel features of a window -> hidden states `[1, 1500, width]`. */
export class AudioEncoder {
  readonly #graph: Graph;
  readonly #bins: number;
  readonly #features: Edge<FloatType>;
  readonly #hidden: Edge<FloatType>;

  constructor(graph: Graph, bins: number) {
    this.#graph = graph;
    this.#bins = bins;
    this.#features = bindInput(graph, { role: "input_features", types: FLOATS, ranks: [3] });
    this.#hidden = bindOutput(graph, { role: "last_hidden_state", types: FLOATS, ranks: [3] });
    requireOnly(graph, [this.#features]);
    requireSize(graph, this.#features, 1, bins, "num_mel_bins of config.json");
    requireSize(graph, this.#features, 2, WINDOW_FRAMES, "30 s");
  }

  async encode(features: Float32Array): Promise<Tensor> {
    const { name, type } = this.#features;
    const feeds = { [name]: floatTensor(type, toFloatData(features, type), [1, this.#bins, WINDOW_FRAMES]) };
    return outputOf(await this.#graph.session.run(feeds), this.#hidden, this.#graph.part);
  }
}
