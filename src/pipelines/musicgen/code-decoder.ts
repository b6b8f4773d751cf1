import type { Tensor } from "../backend.ts";
import { asFloat32, floatTensor } from "../graph/float-edge.ts";
import type { Graph } from "../graph/graph-edge.ts";
import { MergedDecoder } from "../graph/merged-decoder.ts";
import { CodeSequence } from "./code-sequence.ts";
import type { MusicgenConfig } from "./musicgen-config.ts";

/** The decoder of codes: a row with the text, and with guidance another without it. Each codebook is a row of ids of its own. */
export class CodeDecoder {
  readonly #decoder: MergedDecoder;
  readonly #codes: number;

  constructor(graph: Graph, { layers, heads, headSize, codes }: MusicgenConfig) {
    this.#decoder = new MergedDecoder(graph, { layers, heads, headSize, vocabulary: codes }, true);
    this.#codes = codes;
  }

  /** @param text hidden states `[1, tokens, size]`; with guidance a second row of zeros, without any text, goes beside it */
  begin(text: Tensor, isGuided: boolean): CodeSequence {
    const [, tokens = 0, size = 0] = text.dims;
    const rows = isGuided ? 2 : 1;
    const hidden = new Float32Array(rows * tokens * size);
    hidden.set(asFloat32(text));
    const mask = Array.from({ length: rows * tokens }, (_, index) => (index < tokens ? 1 : 0));
    const decoding = this.#decoder.begin(floatTensor("float32", hidden, [rows, tokens, size]), mask);
    return new CodeSequence(decoding, rows, this.#codes);
  }
}
