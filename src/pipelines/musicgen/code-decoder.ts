import type { Tensor } from "../backend.ts";
import { asFloat32, floatTensor } from "../graph/float-edge.ts";
import type { Graph } from "../graph/graph-edge.ts";
import { MergedDecoder, type DecoderState } from "../graph/merged-decoder.ts";
import type { MusicgenConfig } from "./musicgen-config.ts";

export interface CodeStep {
  /** Logits of the next code, one array of `codes` per row and codebook: row 0 book 0, row 0 book 1 ... */
  readonly logits: readonly Float32Array[];
  readonly state: DecoderState;
}

/** The decoder of codes: a row with the text, and with guidance another without it. Each codebook is a row of ids of its own. */
export class CodeDecoder {
  readonly #decoder: MergedDecoder;
  readonly #codes: number;

  constructor(graph: Graph, { layers, heads, headSize, codes }: MusicgenConfig) {
    this.#decoder = new MergedDecoder(graph, { layers, heads, headSize, vocabulary: codes }, true);
    this.#codes = codes;
  }

  /** @param text hidden states `[1, tokens, size]`; with guidance a second row of zeros, without any text, goes beside it */
  begin(text: Tensor, isGuided: boolean): DecoderState {
    const [, tokens = 0, size = 0] = text.dims;
    const rows = isGuided ? 2 : 1;
    const hidden = new Float32Array(rows * tokens * size);
    hidden.set(asFloat32(text));
    const mask = Array.from({ length: rows * tokens }, (_, index) => (index < tokens ? 1 : 0));
    return this.#decoder.begin(floatTensor("float32", hidden, [rows, tokens, size]), mask);
  }

  /** One step: `codes` are the last ones, one per codebook, the same for all rows. */
  async step(state: DecoderState, codes: readonly number[]): Promise<CodeStep> {
    const [rows = 1] = state.hidden.dims;
    const ids = Array.from({ length: rows }, () => codes.map((code) => [code])).flat();
    const next = await this.#decoder.step(state, ids);
    const size = this.#codes;
    const logits = ids.map((_, index) => next.logits.subarray(index * size, (index + 1) * size));
    return { logits, state: next.state };
  }
}
