import { AppError } from "../../protocol/error.ts";
import type { Environment } from "./environment.ts";
import type { Pointer } from "./signature.ts";

/** Makes onnxruntime keep where it put the nodes of a graph. */
export const KEEP_ASSIGNMENT = { "session.record_ep_graph_assignment_info": "1" } as const;

/**
 * Whether a graph runs on what was named for it: onnxruntime puts a graph that no provider wants on the CPU without a word.
 * @throws AppError MODEL_UNSUPPORTED when none of the providers took a node
 */
export function requireTaken(env: Environment, session: Pointer<"Session">, path: string, providers: readonly string[]): void {
  const { call, addresses, text } = env.library;
  const [array, count] = call.SessionGetEpGraphAssignmentInfo(session);
  const taken = addresses(array, count).map((address) => text(call.EpAssignedSubgraphName(address as Pointer<"EpAssignedSubgraph">)));
  if (taken.length === 0 || taken.some((name) => providers.includes(name))) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `${path}: none of its nodes were taken by ${providers.join(" or ")}, they are on ${[...new Set(taken)].join(", ")}; name cpu as the last provider to allow that, or leave these providers out of the runtime options`,
  );
}
