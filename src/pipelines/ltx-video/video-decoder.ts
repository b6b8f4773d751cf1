import { emptyTensor, runFor } from "../graph/bound-run.ts";
import { floatTensor, readFloatData, toFloatData, type FloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOptionalInput, bindOutput, FLOATS, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import type { FrameBlock } from "./frame-block.ts";
import { LATENT_CHANNELS } from "./video-transformer.ts";
import { FRAME_FACTOR, PIXEL_FACTOR, type VideoShape } from "./video-latents.ts";

/** Noise for a timestep-conditioned decoder. */
export interface DecodeNoise {
  /** `[channels, frames, height, width]`, as the latents. */
  readonly noise: Float32Array;
  /** Share of it in the mix, 0..1. */
  readonly scale: number;
  /** Noise level that the decoder is told, 0..1. */
  readonly timestep: number;
}

interface NoiseEdges {
  readonly noise: Edge<FloatType>;
  readonly scale: Edge<FloatType>;
  readonly timestep: Edge<FloatType>;
}

/** Normalised latents -> frames; the statistics are in the graph, and from 0.9.1 on so is the mix with noise. */
export class VideoDecoder {
  readonly #graph: Graph;
  readonly #latent: Edge<FloatType>;
  readonly #noise: NoiseEdges | null;
  readonly #sample: Edge<FloatType>;

  constructor(graph: Graph) {
    const scalar = (role: string): Edge<FloatType> => bindInput(graph, { role, types: FLOATS, ranks: [1] });
    this.#graph = graph;
    this.#latent = bindInput(graph, { role: "latent_sample", types: FLOATS, ranks: [5] });
    const noise = bindOptionalInput(graph, { role: "noise", types: FLOATS, ranks: [5] });
    this.#noise = noise === null ? null : { noise, scale: scalar("decode_noise_scale"), timestep: scalar("timestep") };
    this.#sample = bindOutput(graph, { role: "sample", types: FLOATS, ranks: [5] });
    requireOnly(graph, [this.#latent, this.#noise?.noise ?? null, this.#noise?.scale ?? null, this.#noise?.timestep ?? null]);
    requireSize(graph, this.#latent, 1, LATENT_CHANNELS, "the autoencoder's latent channels");
  }

  /** Whether it takes noise. */
  get conditioned(): boolean {
    return this.#noise !== null;
  }

  /**
   * @param memory for the frames, at least `frameValues(shape)`; fresh by default
   * @throws AppError of the run, also when the frames are not of the size that the latents stand for
   */
  async decode(latents: Float32Array, shape: VideoShape, mix: DecodeNoise | null, memory?: Float32Array): Promise<FrameBlock> {
    const dims = [1, shape.channels, shape.frames, shape.height, shape.width];
    const tensor = ({ type }: Edge<FloatType>, values: Float32Array, size: readonly number[]) =>
      floatTensor(type, toFloatData(values, type), size);
    const feeds = { [this.#latent.name]: tensor(this.#latent, latents, dims) };
    if (this.#noise !== null && mix !== null) {
      feeds[this.#noise.noise.name] = tensor(this.#noise.noise, mix.noise, dims);
      feeds[this.#noise.scale.name] = tensor(this.#noise.scale, Float32Array.of(mix.scale), [1]);
      feeds[this.#noise.timestep.name] = tensor(this.#noise.timestep, Float32Array.of(mix.timestep), [1]);
    }
    const [frames, height, width] = [(shape.frames - 1) * FRAME_FACTOR + 1, shape.height * PIXEL_FACTOR, shape.width * PIXEL_FACTOR];
    const data = (memory ?? new Float32Array(frameValues(shape))).subarray(0, frameValues(shape));
    const { type } = this.#sample;
    const size = [1, 3, frames, height, width];
    const into = type === "float32" ? floatTensor(type, data, size) : emptyTensor(type, size);
    readFloatData((await runFor(this.#graph, feeds, this.#sample, into)).data as FloatData, data);
    return { data, frames, height, width };
  }
}

/** Values of the frames that latents of this shape stand for. */
export function frameValues({ frames, height, width }: Pick<VideoShape, "frames" | "height" | "width">): number {
  return 3 * ((frames - 1) * FRAME_FACTOR + 1) * height * PIXEL_FACTOR * width * PIXEL_FACTOR;
}
