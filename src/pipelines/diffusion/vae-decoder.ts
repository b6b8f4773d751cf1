import type { LatentShape } from "./latents.ts";
import { emptyTensor, runFor } from "../graph/bound-run.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import type { DecodedPixels } from "./pixels.ts";

/** Latents -> pixels, one picture at a time: its activations are the largest memory of a job. */
export class VaeDecoder {
  readonly #graph: Graph;
  readonly #factor: number;
  readonly #latent: Edge<FloatType>;
  readonly #sample: Edge<FloatType>;

  /** @param factor picture pixels per latent pixel */
  constructor(graph: Graph, { channels, factor }: { readonly channels: number; readonly factor: number }) {
    this.#graph = graph;
    this.#factor = factor;
    this.#latent = bindInput(graph, { role: "latent_sample", types: FLOATS, ranks: [4] });
    this.#sample = bindOutput(graph, { role: "sample", types: FLOATS, ranks: [4] });
    requireOnly(graph, [this.#latent]);
    requireSize(graph, this.#latent, 1, channels, "the autoencoder's latent channels");
  }

  /** @throws AppError of the run, also when the pixels are not as many as the latents stand for */
  async decode(latents: Float32Array, { channels, height, width }: LatentShape): Promise<DecodedPixels> {
    const { type, name } = this.#latent;
    const feeds = { [name]: floatTensor(type, toFloatData(latents, type), [1, channels, height, width]) };
    const pixels = { height: height * this.#factor, width: width * this.#factor };
    const into = emptyTensor(this.#sample.type, [1, 3, pixels.height, pixels.width]);
    return { data: asFloat32(await runFor(this.#graph, feeds, this.#sample, into)), ...pixels };
  }
}
