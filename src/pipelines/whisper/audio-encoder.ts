import type { BoundResults, Feed } from "../backend.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
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

  /**
   * @param features `[bins, frames]` of a window
   * @param type what the decoder takes hidden states as: where the encoder gives the same they stay on the device; else they come back. Who
   * encodes releases them.
   */
  async encode(features: Float32Array, type: FloatType): Promise<Feed> {
    const isKept = this.#hidden.type === type;
    const { host, device } = await this.#run(features, isKept ? "device" : "host");
    const { name } = this.#hidden;
    return device[name] ?? outputOf(host, this.#hidden, this.#graph.part);
  }

  /** The same, in this process' memory. */
  async encodeToHost(features: Float32Array): Promise<Float32Array> {
    const { host } = await this.#run(features, "host");
    return asFloat32(outputOf(host, this.#hidden, this.#graph.part));
  }

  async #run(features: Float32Array, target: "host" | "device"): Promise<BoundResults> {
    const { name, type } = this.#features;
    using binding = this.#graph.session.bind();
    binding.input(name, floatTensor(type, toFloatData(features, type), [1, this.#bins, WINDOW_FRAMES]));
    binding.output(this.#hidden.name, target);
    return await binding.run();
  }
}
