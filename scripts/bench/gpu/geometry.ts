import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Backend, Session, Tensor } from "../../../src/pipelines/backend.ts";
import type { DeviceSpec } from "../../../src/protocol/ipc.ts";
import { openBackend } from "../../../src/runner/open-backend.ts";
import { deviceBytes } from "../../../test/gpu/report.ts";
import { percentile } from "../row.ts";

export interface Bench {
  readonly device: DeviceSpec;
  /** scripts/export/geometry.py's folder, with its weights. */
  readonly folder: string;
  /** What torch made of the same, or why there is nothing. */
  readonly torch: TorchResult | string;
}

export interface TorchResult {
  /** Where its outputs lie. */
  readonly dir: string;
  readonly torch: string;
  readonly device: string;
  readonly ms: Readonly<Record<string, number>>;
}

/** One line of the report's comparison with torch. */
export interface PartResult {
  readonly part: string;
  readonly ms: number;
  readonly torchMs: number | null;
  /** Largest difference to torch's output over torch's largest value. */
  readonly difference: number | null;
  readonly loadMs: number;
  readonly deviceBytes: number;
}

const RUNS = 5;

/** The numbers that scripts/export/geometry_reference.py feeds as well. */
export function wave(...dims: readonly number[]): Tensor {
  const size = dims.reduce((product, count) => product * count, 1);
  return { type: "float32", data: Float32Array.from({ length: size }, (_, i) => Math.sin(i * 12.9898)), dims };
}

export function ids(count: number): Tensor {
  return { type: "int64", data: BigInt64Array.from({ length: count }, (_, i) => BigInt((i * 7) % 1000)), dims: [1, count] };
}

/** A backend that adds up the native time of all its sessions. */
export function timedBackend(device: DeviceSpec): { readonly backend: Backend; readonly sessionMs: () => number } {
  const backend = openBackend({ device }, "c");
  const sessions: Session[] = [];
  return {
    backend: {
      guard: (signal) => backend.guard(signal),
      open: async (path) => {
        const session = await backend.open(path);
        sessions.push(session);
        return session;
      },
    },
    sessionMs: () => sessions.reduce((sum, { runMs }) => sum + runMs, 0),
  };
}

/** One graph by itself: its load, its memory and the median of its runs, beside torch. `output` alone comes back. */
export async function measurePart(
  { device, folder, torch }: Bench,
  part: string,
  graph: string,
  feeds: Readonly<Record<string, Tensor>>,
  output: string,
): Promise<PartResult> {
  const startedAt = performance.now();
  const session = await openBackend({ device }, "c").open(join(folder, graph));
  const loadMs = performance.now() - startedAt;
  try {
    using binding = session.bind();
    for (const [name, feed] of Object.entries(feeds)) binding.input(name, feed);
    binding.output(output, "host");
    let result = (await binding.run()).host[output];
    const spent: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      const before = session.runMs;
      result = (await binding.run()).host[output];
      spent.push(session.runMs - before);
    }
    return {
      part,
      ms: percentile(spent, 50),
      loadMs,
      deviceBytes: await deviceBytes(),
      ...(await beside(torch, part, result)),
    };
  } finally {
    await session.release();
  }
}

export async function beside(
  torch: Bench["torch"],
  part: string,
  result: Tensor | undefined,
): Promise<Pick<PartResult, "torchMs" | "difference">> {
  if (typeof torch === "string") return { torchMs: null, difference: null };
  const bytes = await readFile(join(torch.dir, `${part}.f32`));
  const expected = new Float32Array(Uint8Array.from(bytes).buffer);
  return { torchMs: torch.ms[part] ?? null, difference: relativeDifference(result, expected) };
}

/** Infinity where sizes differ or a value is no number: that is no match of any quality. */
function relativeDifference(result: Tensor | undefined, expected: Float32Array): number {
  if (result?.type !== "float32" || result.data.length !== expected.length) return Infinity;
  let [difference, largest] = [0, 0];
  for (const [at, value] of expected.entries()) {
    const off = Math.abs((result.data[at] ?? NaN) - value);
    if (!Number.isFinite(off)) return Infinity;
    difference = Math.max(difference, off);
    largest = Math.max(largest, Math.abs(value));
  }
  return largest === 0 ? Infinity : difference / largest;
}
