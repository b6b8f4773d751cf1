import type { Operators } from "../../protocol/ipc.ts";
import type { Environment } from "./environment.ts";
import type { Pointer } from "./signature.ts";

/** Config entry that makes a session remember where its nodes went. Reading it from a session without the entry fails. */
export const RECORD_PLACEMENT: Readonly<Record<string, string>> = { "session.record_ep_graph_assignment_info": "1" };

/**
 * Which execution provider got which operators, as the library noted it when the session was opened: after its basic optimizations and
 * before fusions, nodes inside of If, Loop and Scan included, copies between devices not.
 * What went to the CPU is whole. Of a provider that changes the layout (WebGPU) only the nodes that the change added are named: onnxruntime
 * 1.30 does not note those that the provider took before it.
 */
export function readPlacement({ library }: Environment, session: Pointer<"Session">): Operators {
  const { call, text, addresses } = library;
  const operators: Record<string, Record<string, number>> = {};
  const [subgraphs, count] = call.SessionGetEpGraphAssignmentInfo(session);
  for (const subgraph of addresses(subgraphs, count) as readonly Pointer<"EpAssignedSubgraph">[]) {
    const found = (operators[text(call.EpAssignedSubgraphProvider(subgraph))] ??= {});
    const [nodes, size] = call.EpAssignedSubgraphNodes(subgraph);
    for (const node of addresses(nodes, size) as readonly Pointer<"EpAssignedNode">[]) {
      const operator = text(call.EpAssignedNodeOperator(node));
      found[operator] = (found[operator] ?? 0) + 1;
    }
  }
  return operators;
}
