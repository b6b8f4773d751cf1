import { AppError } from "../../protocol/error.ts";
import type { Tensor } from "../backend.ts";
import { asFloat32, floatDataOf, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import {
  bindInput,
  bindOutput,
  FLOATS,
  idTensor,
  outputOf,
  requireOnly,
  requireSize,
  type Edge,
  type Graph,
  type IdType,
} from "../graph/graph-edge.ts";
import type { MusicgenConfig } from "./musicgen-config.ts";

/** What the codes depend on so far: the text, and keys and values of both text (made once) and codes. */
export interface CodeState {
  readonly hidden: Tensor;
  readonly mask: Tensor;
  /** Rows with the text, and as many without it where there is guidance. */
  readonly rows: number;
  /** Input name -> tensor; null before the first step. */
  readonly past: Readonly<Record<string, Tensor>> | null;
}

export interface CodeStep {
  /** Logits of the next code, one array of `codes` per row and codebook: row 0 book 0, row 0 book 1 ... */
  readonly logits: readonly Float32Array[];
  readonly state: CodeState;
}

interface CachePair {
  readonly past: Edge<FloatType>;
  readonly present: Edge<FloatType>;
  /** Of the text: given once by the first step, later steps return only placeholders. */
  readonly ofText: boolean;
}

/** The merged decoder of the transformers.js layout: `decoder_model_merged.onnx`. */
export class CodeDecoder {
  readonly #graph: Graph;
  readonly #config: MusicgenConfig;
  readonly #ids: Edge<"int64">;
  readonly #hidden: Edge<FloatType>;
  readonly #mask: Edge<IdType>;
  readonly #useCache: Edge<"bool">;
  readonly #logits: Edge<FloatType>;
  readonly #cache: readonly CachePair[];

  constructor(graph: Graph, config: MusicgenConfig) {
    this.#graph = graph;
    this.#config = config;
    this.#ids = bindInput(graph, { role: "input_ids", types: ["int64"], ranks: [2] });
    this.#hidden = bindInput(graph, { role: "encoder_hidden_states", types: FLOATS, ranks: [3] });
    this.#mask = bindInput(graph, { role: "encoder_attention_mask", types: ["int64", "int32"], ranks: [2] });
    this.#useCache = bindInput(graph, { role: "use_cache_branch", types: ["bool"], ranks: [1] });
    this.#logits = bindOutput(graph, { role: "logits", types: FLOATS, ranks: [3] });
    requireSize(graph, this.#logits, 2, config.codes, "decoder.vocab_size of config.json");
    this.#cache = Array.from({ length: config.layers }, (_, layer) =>
      ["decoder", "encoder"].flatMap((side) =>
        ["key", "value"].map((kind) => ({
          past: bindInput(graph, { role: `past_key_values.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] }),
          present: bindOutput(graph, { role: `present.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] }),
          ofText: side === "encoder",
        })),
      ),
    ).flat();
    requireOnly(graph, [this.#ids, this.#hidden, this.#mask, this.#useCache, ...this.#cache.map(({ past }) => past)]);
  }

  /** @param text hidden states `[1, tokens, size]`; with guidance a second row of zeros, without any text, goes beside it */
  begin(text: Tensor, isGuided: boolean): CodeState {
    const [, tokens = 0, size = 0] = text.dims;
    const rows = isGuided ? 2 : 1;
    const own = floatDataOf(text, this.#hidden.type);
    const data = this.#hidden.type === "float32" ? new Float32Array(rows * tokens * size) : new Uint16Array(rows * tokens * size);
    data.set(own);
    const mask = Array.from({ length: rows * tokens }, (_, index) => (index < tokens ? 1 : 0));
    return {
      hidden: floatTensor(this.#hidden.type, data, [rows, tokens, size]),
      mask: idTensor(this.#mask.type, mask, [rows, tokens]),
      rows,
      past: null,
    };
  }

  /** One step: `codes` are the last ones, one per codebook. */
  async step(state: CodeState, codes: readonly number[]): Promise<CodeStep> {
    const { hidden, mask, rows, past } = state;
    const ids = Array.from({ length: rows }, () => codes).flat();
    const results = await this.#graph.session.run({
      [this.#ids.name]: idTensor("int64", ids, [ids.length, 1]),
      [this.#hidden.name]: hidden,
      [this.#mask.name]: mask,
      [this.#useCache.name]: { type: "bool", data: Uint8Array.of(past === null ? 0 : 1), dims: [1] },
      ...(past ?? this.#emptyPast(rows)),
    });
    const present: Record<string, Tensor> = {};
    for (const pair of this.#cache) {
      const kept = pair.ofText ? past?.[pair.past.name] : undefined;
      present[pair.past.name] = kept ?? outputOf(results, pair.present, this.#graph.part);
    }
    const all = asFloat32(outputOf(results, this.#logits, this.#graph.part));
    if (!all.every((value) => !Number.isNaN(value)))
      throw new AppError(
        "BAD_OUTPUT",
        `part ${this.#graph.part}: the logits hold NaN: the graph's precision does not suffice on this device`,
      );
    const { codes: size } = this.#config;
    const logits = Array.from({ length: ids.length }, (_, index) => all.subarray(index * size, (index + 1) * size));
    return { logits, state: { ...state, past: present } };
  }

  #emptyPast(rows: number): Record<string, Tensor> {
    const { heads, headSize } = this.#config;
    const empty = ({ past }: CachePair): [string, Tensor] => {
      const data = toFloatData(new Float32Array(0), past.type);
      return [past.name, floatTensor(past.type, data, [rows, heads, 0, headSize])];
    };
    return Object.fromEntries(this.#cache.map(empty));
  }
}
