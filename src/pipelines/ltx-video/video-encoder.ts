import { fromPixels } from "../diffusion/pixels.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, outputOf, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import { LATENT_CHANNELS } from "./video-transformer.ts";

/** A picture -> parameters of its normalised latents, `[2 * channels, 1, height / 32, width / 32]`: means, then logarithms of variances. */
export class VideoEncoder {
  readonly #graph: Graph;
  readonly #sample: Edge<FloatType>;
  readonly #parameters: Edge<FloatType>;

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#sample = bindInput(graph, { role: "sample", types: FLOATS, ranks: [5] });
    this.#parameters = bindOutput(graph, { role: "latent_parameters", types: FLOATS, ranks: [5] });
    requireOnly(graph, [this.#sample]);
    requireSize(graph, this.#parameters, 1, 2 * LATENT_CHANNELS, "mean and logarithm of the variance of every latent channel");
  }

  async encode(image: RgbImage): Promise<Float32Array> {
    const { type, name } = this.#sample;
    const feeds = { [name]: floatTensor(type, toFloatData(fromPixels(image), type), [1, 3, 1, image.height, image.width]) };
    return asFloat32(outputOf(await this.#graph.session.run(feeds), this.#parameters, this.#graph.part));
  }
}
