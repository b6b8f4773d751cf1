/**
 * Opens graphs as a runner does and writes where onnxruntime put their nodes, one JSON object of path -> provider -> operator -> count.
 *
 *   node test/quantized/placement-child.ts cpu|cuda LIBRARY|- GRAPH ...
 */
import { openBackend } from "../../src/runner/open-backend.ts";
import type { Operators } from "../../src/protocol/ipc.ts";

const [kind, library, ...graphs] = process.argv.slice(2);
const placed: Record<string, Operators> = {};
const backend = openBackend(
  {
    device: { kind: kind === "cuda" ? "cuda" : "cpu", index: 0, threads: 1 },
    ...(library !== "-" && library !== undefined && { libraryPath: library }),
    onPlacement: (path, operators) => {
      placed[path] = operators;
    },
  },
  "c",
);
// Sessions stay open: releasing one may run something on the device.
for (const graph of graphs) await backend.open(graph);
process.stdout.write(`${JSON.stringify(placed)}\n`, () => process.exit(0));
