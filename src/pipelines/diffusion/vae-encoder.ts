import type { RgbImage } from "../media/rgb-image.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, outputOf, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import { fromPixels } from "./pixels.ts";

/** Pixels -> the posterior's parameters `[2 * channels, height / 8, width / 8]`: means, then logarithms of variances. */
export class VaeEncoder {
  readonly #graph: Graph;
  readonly #sample: Edge<FloatType>;
  readonly #parameters: Edge<FloatType>;

  constructor(graph: Graph, channels: number) {
    this.#graph = graph;
    this.#sample = bindInput(graph, { role: "sample", types: FLOATS, ranks: [4] });
    this.#parameters = bindOutput(graph, { role: "latent_parameters", types: FLOATS, ranks: [4] });
    requireOnly(graph, [this.#sample]);
    requireSize(graph, this.#parameters, 1, 2 * channels, "mean and logarithm of the variance of every latent channel");
  }

  async encode(image: RgbImage): Promise<Float32Array> {
    const { type, name } = this.#sample;
    const feeds = { [name]: floatTensor(type, toFloatData(fromPixels(image), type), [1, 3, image.height, image.width]) };
    return asFloat32(outputOf(await this.#graph.session.run(feeds), this.#parameters, this.#graph.part));
  }
}
