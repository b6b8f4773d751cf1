import { EXECUTION_PROVIDERS, type GraphPlacement, type Operators } from "../../protocol/ipc.ts";
import type { DeviceKind } from "../../protocol/manifest.ts";

/** What other providers than the device's got of a graph, by provider: mostly shape arithmetic on the CPU. Empty when nothing did. */
export function leftOver({ operators }: GraphPlacement, kind: DeviceKind): Operators {
  return Object.fromEntries(Object.entries(operators).filter(([provider]) => provider !== EXECUTION_PROVIDERS[kind]));
}

/** `12 nodes on CPUExecutionProvider: Gather 8, Concat 4`, the most frequent first. */
export function describeLeftOver(left: Operators): string {
  const parts = Object.entries(left).map(([provider, found]) => {
    const sorted = Object.entries(found).toSorted(([, a], [, b]) => b - a);
    const total = sorted.reduce((sum, [, count]) => sum + count, 0);
    return `${total} nodes on ${provider}: ${sorted.map(([operator, count]) => `${operator} ${count}`).join(", ")}`;
  });
  return parts.join("; ");
}

/** The graphs of a model of which other providers got nodes, by path, for a log line. */
export function leftOvers(placement: readonly GraphPlacement[], kind: DeviceKind): Readonly<Record<string, string>> {
  const found = placement.map((graph): [string, string] => [graph.path, describeLeftOver(leftOver(graph, kind))]);
  return Object.fromEntries(found.filter(([, text]) => text !== ""));
}
