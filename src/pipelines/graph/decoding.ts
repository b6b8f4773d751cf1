import { AppError } from "../../protocol/error.ts";
import { isOnDevice, type Binding, type Feed, type Tensor } from "../backend.ts";
import { asFloat32, floatDataOf, floatTensor, toFloatData, type FloatType } from "./float-edge.ts";
import { idTensor, outputOf, type Edge, type Graph, type IdType } from "./graph-edge.ts";
import { bindEmptyCache, keepCache, passOnCache, type CachePair } from "./kv-cache.ts";
import type { DecoderSizes } from "./merged-decoder.ts";

/** The edges of a decoder's graph. */
export interface DecoderEdges {
  readonly ids: Edge<"int64">;
  readonly hidden: Edge<FloatType>;
  /** Null for a graph that takes none. */
  readonly mask: Edge<IdType> | null;
  readonly useCache: Edge<"bool">;
  readonly logits: Edge<FloatType>;
  /** Keys and values of the ids so far: they grow with each step. */
  readonly ofText: readonly CachePair[];
  /** Keys and values of the encoder's output: the first step makes them, later steps take them. */
  readonly ofEncoder: readonly CachePair[];
}

export interface DecodingOptions {
  readonly graph: Graph;
  readonly edges: DecoderEdges;
  readonly sizes: DecoderSizes;
  readonly hidden: Feed;
  readonly mask: readonly number[] | undefined;
}

/**
 * One sequence on its way (or several rows of equal length). Keys and values stay on the device from step to step: ids go in, logits come
 * back, and nothing else crosses. The encoder's hidden states are given once for the first step, and once for all later ones.
 */
export class Decoding implements Disposable {
  readonly #options: DecodingOptions;
  #binding: Binding;
  /** Bound as the output. */
  #logits: Tensor | null = null;
  #isFirst = true;

  constructor(options: DecodingOptions) {
    const { edges, hidden, sizes } = options;
    this.#options = options;
    this.#binding = this.#bind("first", (binding) => {
      bindEmptyCache(binding, [...edges.ofText, ...edges.ofEncoder], [hidden.dims[0] ?? 1, sizes.heads, 0, sizes.headSize]);
      keepCache(binding, [...edges.ofText, ...edges.ofEncoder]);
    });
  }

  /**
   * Adds ids to each row. The first step takes any number of them, each later one exactly one.
   * @returns logits `[rows * ids, vocabulary]` of the ids of this step; valid until the next step
   * @throws AppError BAD_OUTPUT when the logits are no numbers, and as Session.run
   */
  async step(ids: readonly (readonly number[])[]): Promise<Float32Array> {
    const { edges, graph } = this.#options;
    const added = ids[0]?.length ?? 0;
    if (!this.#isFirst && added !== 1) throw new TypeError(`${added} ids for a later step: this is a bug`);
    this.#binding.input(edges.ids.name, idTensor("int64", ids.flat(), [ids.length, added]));
    this.#makeRoom(ids.length, added);
    const results = await this.#binding.run();
    if (this.#isFirst) this.#goOn(results);
    else passOnCache(results, edges.ofText, this.#binding);
    const logits = asFloat32(outputOf(results.host, edges.logits, graph.part));
    requireNumbers(logits, graph.part);
    return logits;
  }

  [Symbol.dispose](): void {
    this.#binding[Symbol.dispose]();
  }

  /** From the branch for the first ids to the one for each later id. */
  #goOn(results: Awaited<ReturnType<Binding["run"]>>): void {
    const { edges } = this.#options;
    const later = this.#bind("later", (binding) => {
      passOnCache(results, [...edges.ofText, ...edges.ofEncoder], binding);
      keepCache(binding, edges.ofText);
    });
    this.#binding[Symbol.dispose]();
    this.#binding = later;
    this.#isFirst = false;
    // It belongs to the other binding: the next step makes its own.
    this.#logits = null;
  }

  #bind(steps: "first" | "later", cache: (binding: Binding) => void): Binding {
    const { graph, edges, hidden, mask } = this.#options;
    const [rows = 1, tokens = 0] = hidden.dims;
    const binding = graph.session.bind();
    try {
      binding.input(edges.hidden.name, asFeed(hidden, edges.hidden.type));
      if (edges.mask !== null) {
        const ones = (): readonly number[] => Array.from({ length: rows * tokens }, () => 1);
        binding.input(edges.mask.name, idTensor(edges.mask.type, mask ?? ones(), [rows, tokens]));
      }
      binding.input(edges.useCache.name, { type: "bool", data: Uint8Array.of(steps === "first" ? 0 : 1), dims: [1] });
      cache(binding);
      return binding;
    } catch (thrown) {
      binding[Symbol.dispose]();
      throw thrown;
    }
  }

  /** Memory for the logits of a step. */
  #makeRoom(rows: number, added: number): void {
    const { sizes, edges } = this.#options;
    if (this.#logits?.dims[0] === rows && this.#logits.dims[1] === added) return;
    const { type, name } = edges.logits;
    const dims = [rows, added, sizes.vocabulary];
    this.#logits = floatTensor(type, toFloatData(new Float32Array(rows * added * sizes.vocabulary), type), dims);
    this.#binding.output(name, this.#logits);
  }
}

function asFeed(hidden: Feed, type: FloatType): Feed {
  if (!isOnDevice(hidden)) return floatTensor(type, floatDataOf(hidden, type), hidden.dims);
  if (hidden.type === type) return hidden;
  throw new TypeError(`hidden states on the device are ${hidden.type}, the decoder takes ${type}: this is a bug`);
}

function requireNumbers(logits: Float32Array, part: string): void {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += logits[i]!;
  // Infinities of both signs make no number either: only then each value is looked at.
  if (!Number.isNaN(sum) || !logits.some(Number.isNaN)) return;
  throw new AppError("BAD_OUTPUT", `part ${part}: the logits hold NaN: the graph's precision does not suffice on this device`);
}
