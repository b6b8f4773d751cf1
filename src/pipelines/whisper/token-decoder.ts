import { AppError } from "../../protocol/error.ts";
import type { Tensor } from "../backend.ts";
import { asFloat32, floatDataOf, floatTensor, toFloatData, type FloatType } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, outputOf, requireOnly, requireSize, type Edge, type Graph } from "../graph/graph-edge.ts";
import type { WhisperConfig } from "./whisper-config.ts";

/** What a text depends on so far: keys and values of the audio (made once a window) and of the tokens. */
export interface DecoderState {
  readonly hidden: Tensor;
  /** Input name -> tensor; null before the first step. */
  readonly past: Readonly<Record<string, Tensor>> | null;
}

export interface DecoderStep {
  /** `[tokens, vocabulary]`, of the tokens of this step. */
  readonly logits: Float32Array;
  readonly state: DecoderState;
}

interface CachePair {
  readonly past: Edge<FloatType>;
  readonly present: Edge<FloatType>;
  /** Of the audio: given once by the first step, later steps return only placeholders. */
  readonly ofAudio: boolean;
}

/**
 * The merged decoder: one graph with a branch for the first tokens of a window and one for each later token, which takes keys and values of
 * what was before. Roles are named as in Optimum's `decoder_model_merged.onnx`.
 */
export class TokenDecoder {
  readonly #graph: Graph;
  readonly #config: WhisperConfig["decoder"];
  readonly #ids: Edge<"int64">;
  readonly #hidden: Edge<FloatType>;
  readonly #useCache: Edge<"bool">;
  readonly #logits: Edge<FloatType>;
  readonly #cache: readonly CachePair[];

  constructor(graph: Graph, config: WhisperConfig["decoder"]) {
    this.#graph = graph;
    this.#config = config;
    this.#ids = bindInput(graph, { role: "input_ids", types: ["int64"], ranks: [2] });
    this.#hidden = bindInput(graph, { role: "encoder_hidden_states", types: FLOATS, ranks: [3] });
    this.#useCache = bindInput(graph, { role: "use_cache_branch", types: ["bool"], ranks: [1] });
    this.#logits = bindOutput(graph, { role: "logits", types: FLOATS, ranks: [3] });
    requireSize(graph, this.#logits, 2, config.vocabulary, "vocab_size of config.json");
    this.#cache = Array.from({ length: config.layers }, (_, layer) =>
      ["decoder", "encoder"].flatMap((side) =>
        ["key", "value"].map((kind) => {
          const past = bindInput(graph, { role: `past_key_values.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] });
          const present = bindOutput(graph, { role: `present.${layer}.${side}.${kind}`, types: FLOATS, ranks: [4] });
          requireSize(graph, past, 1, config.heads, "decoder_attention_heads of config.json");
          requireSize(graph, past, 3, config.headSize, "d_model / decoder_attention_heads of config.json");
          return { past, present, ofAudio: side === "encoder" };
        }),
      ),
    ).flat();
    requireOnly(graph, [this.#ids, this.#hidden, this.#useCache, ...this.#cache.map(({ past }) => past)]);
  }

  begin(hidden: Tensor): DecoderState {
    return { hidden: floatTensor(this.#hidden.type, floatDataOf(hidden, this.#hidden.type), hidden.dims), past: null };
  }

  /** Adds `tokens` to the text. The first step takes any number of them, each later one exactly one. */
  async step({ hidden, past }: DecoderState, tokens: readonly number[]): Promise<DecoderStep> {
    if (past !== null && tokens.length !== 1) throw new TypeError(`${tokens.length} tokens for a later step: this is a bug`);
    const results = await this.#graph.session.run({
      [this.#ids.name]: { type: "int64", data: BigInt64Array.from(tokens, BigInt), dims: [1, tokens.length] },
      [this.#hidden.name]: hidden,
      [this.#useCache.name]: { type: "bool", data: Uint8Array.of(past === null ? 0 : 1), dims: [1] },
      ...(past ?? this.#emptyPast()),
    });
    const present: Record<string, Tensor> = {};
    for (const pair of this.#cache) {
      const kept = pair.ofAudio ? past?.[pair.past.name] : undefined;
      present[pair.past.name] = kept ?? outputOf(results, pair.present, this.#graph.part);
    }
    const logits = asFloat32(outputOf(results, this.#logits, this.#graph.part));
    if (!logits.every((value) => !Number.isNaN(value)))
      throw new AppError(
        "BAD_OUTPUT",
        `part ${this.#graph.part}: the logits hold NaN: the graph's precision does not suffice on this device`,
      );
    return { logits, state: { hidden, past: present } };
  }

  #emptyPast(): Record<string, Tensor> {
    const dims = [1, this.#config.heads, 0, this.#config.headSize];
    const empty = ({ past }: CachePair): [string, Tensor] => [
      past.name,
      floatTensor(past.type, toFloatData(new Float32Array(0), past.type), dims),
    ];
    return Object.fromEntries(this.#cache.map(empty));
  }
}
