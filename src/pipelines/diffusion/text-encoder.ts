import { runFor } from "../graph/bound-run.ts";
import { floatDataOf, type FloatData, type FloatType } from "../graph/float-edge.ts";
import {
  bindInput,
  bindOptionalInput,
  bindOutput,
  FLOATS,
  idTensor,
  IDS,
  requireOnly,
  requireSize,
  type Edge,
  type Graph,
  type IdType,
} from "../graph/graph-edge.ts";

/** What of the encoder's output the transformer takes: one vector for the prompt, or one for each token. */
export type TextOutput =
  | { readonly role: "pooler_output"; readonly ranks: readonly [2] }
  | { readonly role: "last_hidden_state"; readonly ranks: readonly [3] };

export const POOLED: TextOutput = { role: "pooler_output", ranks: [2] };
export const SEQUENCE: TextOutput = { role: "last_hidden_state", ranks: [3] };

/** A text encoder for one prompt at a time, ids of a fixed length. Flux and LTXPipeline give no attention mask. */
export class TextEncoder {
  readonly #graph: Graph;
  readonly #ids: Edge<IdType>;
  readonly #mask: Edge<IdType> | null;
  readonly #output: Edge<FloatType>;

  constructor(graph: Graph, output: TextOutput, length: number) {
    this.#graph = graph;
    this.#ids = bindInput(graph, { role: "input_ids", types: IDS, ranks: [2] });
    this.#mask = bindOptionalInput(graph, { role: "attention_mask", types: IDS, ranks: [2] });
    this.#output = bindOutput(graph, { role: output.role, types: FLOATS, ranks: output.ranks });
    requireOnly(graph, [this.#ids, this.#mask]);
    requireSize(graph, this.#ids, -1, length, "the number of tokens that the manifest's options give");
  }

  /** Whether the graph can leave padding out. */
  get masked(): boolean {
    return this.#mask !== null;
  }

  get width(): number | string | undefined {
    return this.#output.dims.at(-1);
  }

  /** `[width]` or `[tokens * width]` as `type`, with the width that came out. Without a `mask` the padding is attended to as well. */
  async encode(
    ids: readonly number[],
    type: FloatType,
    mask: readonly number[] = ids.map(() => 1),
  ): Promise<{ readonly data: FloatData; readonly width: number }> {
    const dims = [1, ids.length];
    const feeds = { [this.#ids.name]: idTensor(this.#ids.type, ids, dims) };
    if (this.#mask !== null) feeds[this.#mask.name] = idTensor(this.#mask.type, mask, dims);
    const tensor = await runFor(this.#graph, feeds, this.#output, null);
    return { data: floatDataOf(tensor, type), width: tensor.dims.at(-1) ?? 0 };
  }
}
