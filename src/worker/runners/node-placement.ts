import { relative } from "node:path";

/** Nodes of one graph as onnxruntime runs it: after its own optimizations, those inside of If, Loop and Scan included. */
export interface GraphPlacement {
  /** Relative to the model's folder. */
  readonly path: string;
  /** Nodes by execution provider, copies not counted. */
  readonly nodes: Readonly<Record<string, number>>;
  /** Nodes by execution provider and operator. Empty where one provider has all: onnxruntime names no nodes then. */
  readonly operators: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Copies between the device's memory and the host's that onnxruntime put between nodes: each makes both wait. */
  readonly copies: number;
}

interface Building {
  nodes: Record<string, number>;
  operators: Record<string, Record<string, number>>;
  copies: number;
  /** Whose nodes the next lines name; null where no list is under way. */
  provider: string | null;
}

/** `2026-11-30 12:00:00.123 [V:onnxruntime:<log id>, session_state.cc:1377 Function] text` */
const LINE = /\[V:onnxruntime:(?<id>.+), [\w.]+:\d+ \S+\] (?<text>.*)$/;
const BEGIN = /^Node placements/;
const TOTAL = /^ ?(?<kind>All nodes|Node\(s\)) placed on \[(?<provider>\w+)\]\. Number of nodes: (?<count>\d+)/;
const NODE = /^ {2,}(?<operator>[\w.]+) \(/;

/**
 * Reads from onnxruntime's verbose log which execution provider each node of a graph was given to. A profile would say it too, but only
 * of nodes that ran, and running a graph takes inputs.
 */
export class PlacementReader {
  readonly #graphs = new Map<string, Building>();

  /** A line of what a runner wrote that opened its sessions with `logPlacement`; others are passed over. */
  read(line: string): void {
    const { id, text } = LINE.exec(line)?.groups ?? {};
    if (id === undefined || text === undefined) return;
    // A file that is opened again counts once.
    if (BEGIN.test(text)) this.#graphs.set(id, { nodes: {}, operators: {}, copies: 0, provider: null });
    const graph = this.#graphs.get(id);
    if (graph === undefined) return;
    const { kind, provider, count } = TOTAL.exec(text)?.groups ?? {};
    if (provider !== undefined) {
      graph.nodes[provider] = Number(count);
      graph.provider = kind === "All nodes" ? null : provider;
      return;
    }
    const operator = NODE.exec(text)?.groups?.["operator"];
    if (operator === undefined || graph.provider === null) {
      graph.provider = null;
      return;
    }
    if (operator.startsWith("Memcpy")) {
      graph.copies += 1;
      graph.nodes[graph.provider] = (graph.nodes[graph.provider] ?? 0) - 1;
      return;
    }
    const operators = (graph.operators[graph.provider] ??= {});
    operators[operator] = (operators[operator] ?? 0) + 1;
  }

  /** In the order in which they were opened. Their paths are relative to `dir`. */
  graphs(dir: string): readonly GraphPlacement[] {
    return [...this.#graphs].map(([path, { nodes, operators, copies }]) => ({ path: relative(dir, path), nodes, operators, copies }));
  }
}
