import { AppError } from "../../protocol/error.ts";
import type { FloatType } from "../graph/float-edge.ts";
import {
  bindInput,
  bindOptionalInput,
  bindOutput,
  FLOATS,
  IDS,
  requireOnly,
  requireSize,
  type Edge,
  type Graph,
  type IdType,
} from "../graph/graph-edge.ts";

/** The Flux transformer as one graph: velocity of packed latents `[rows, tokens, features]` at a noise level. */
export class FluxTransformer {
  readonly graph: Graph;
  /** Values of one latent token. */
  readonly features: number;
  readonly hidden: Edge<FloatType>;
  readonly sequence: Edge<FloatType>;
  readonly pooled: Edge<FloatType>;
  readonly timestep: Edge<FloatType>;
  /** Only distilled-guidance models (dev) have it. */
  readonly guidance: Edge<FloatType> | null;
  readonly imageIds: Edge<IdType>;
  readonly textIds: Edge<IdType>;
  readonly velocity: Edge<FloatType>;
  /** False for a graph exported with a batch of 1: its rows are run one by one. */
  readonly batched: boolean;

  constructor(graph: Graph, features: number) {
    const float = (role: string, rank: number): Edge<FloatType> => bindInput(graph, { role, types: FLOATS, ranks: [rank] });
    const ids = (role: string): Edge<IdType> => bindInput(graph, { role, types: IDS, ranks: [2, 3] });
    this.graph = graph;
    this.features = features;
    this.hidden = float("hidden_states", 3);
    this.sequence = float("encoder_hidden_states", 3);
    this.pooled = float("pooled_projections", 2);
    this.timestep = float("timestep", 1);
    this.guidance = bindOptionalInput(graph, { role: "guidance", types: FLOATS, ranks: [1] });
    this.imageIds = ids("img_ids");
    this.textIds = ids("txt_ids");
    this.velocity = bindOutput(graph, { role: "out_hidden_states", types: FLOATS, ranks: [3] });
    requireOnly(graph, [this.hidden, this.sequence, this.pooled, this.timestep, this.guidance, this.imageIds, this.textIds]);
    requireSize(graph, this.hidden, -1, features, "4 x the autoencoder's latent channels");
    const batch = this.hidden.dims[0];
    if (typeof batch === "number" && batch !== 1) {
      throw new AppError(
        "MODEL_UNSUPPORTED",
        `part ${graph.part}: ${this.hidden.name} has a fixed batch of ${batch}, expected a symbolic one or 1`,
      );
    }
    this.batched = batch !== 1;
  }
}
