import { fromPixels } from "../diffusion/pixels.ts";
import { emptyTensor, runFor } from "../graph/bound-run.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import { PIXEL_FACTOR } from "./video-latents.ts";
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
    const dims = [1, 2 * LATENT_CHANNELS, 1, image.height / PIXEL_FACTOR, image.width / PIXEL_FACTOR];
    return asFloat32(await runFor(this.#graph, feeds, this.#parameters, emptyTensor(this.#parameters.type, dims)));
  }
}
