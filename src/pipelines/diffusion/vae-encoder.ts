import type { RgbImage } from "../media/rgb-image.ts";
import { emptyTensor, runFor } from "../graph/bound-run.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import { fromPixels } from "./pixels.ts";

/** Pixels -> the posterior's parameters `[2 * channels, height / factor, width / factor]`: means, then logarithms of variances. */
export class VaeEncoder {
  readonly #graph: Graph;
  readonly #channels: number;
  readonly #factor: number;
  readonly #sample: Edge<FloatType>;
  readonly #parameters: Edge<FloatType>;

  /** @param factor picture pixels per latent pixel */
  constructor(graph: Graph, { channels, factor }: { readonly channels: number; readonly factor: number }) {
    this.#graph = graph;
    this.#channels = channels;
    this.#factor = factor;
    this.#sample = bindInput(graph, { role: "sample", types: FLOATS, ranks: [4] });
    this.#parameters = bindOutput(graph, { role: "latent_parameters", types: FLOATS, ranks: [4] });
    requireOnly(graph, [this.#sample]);
    requireSize(graph, this.#parameters, 1, 2 * channels, "mean and logarithm of the variance of every latent channel");
  }

  async encode(image: RgbImage): Promise<Float32Array> {
    const { type, name } = this.#sample;
    const feeds = { [name]: floatTensor(type, toFloatData(fromPixels(image), type), [1, 3, image.height, image.width]) };
    const dims = [1, 2 * this.#channels, image.height / this.#factor, image.width / this.#factor];
    return asFloat32(await runFor(this.#graph, feeds, this.#parameters, emptyTensor(this.#parameters.type, dims)));
  }
}
