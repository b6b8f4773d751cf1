import type { LatentShape } from "./latents.ts";
import { asFloat32, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, outputOf, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import type { DecodedPixels } from "./pixels.ts";

/** Latents -> pixels, one picture at a time: its activations are the largest memory of a job. */
export class VaeDecoder {
  readonly #graph: Graph;
  readonly #latent: Edge<FloatType>;
  readonly #sample: Edge<FloatType>;

  constructor(graph: Graph, channels: number) {
    this.#graph = graph;
    this.#latent = bindInput(graph, { role: "latent_sample", types: FLOATS, ranks: [4] });
    this.#sample = bindOutput(graph, { role: "sample", types: FLOATS, ranks: [4] });
    requireOnly(graph, [this.#latent]);
    requireSize(graph, this.#latent, 1, channels, "the autoencoder's latent channels");
  }

  async decode(latents: Float32Array, { channels, height, width }: LatentShape): Promise<DecodedPixels> {
    const { type, name } = this.#latent;
    const feeds = { [name]: floatTensor(type, toFloatData(latents, type), [1, channels, height, width]) };
    const tensor = outputOf(await this.#graph.session.run(feeds), this.#sample, this.#graph.part);
    return { data: asFloat32(tensor), height: tensor.dims[2] ?? 0, width: tensor.dims[3] ?? 0 };
  }
}
