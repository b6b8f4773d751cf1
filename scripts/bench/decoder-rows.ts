import { existsSync } from "node:fs";
import { join } from "node:path";
import { MergedDecoder, type DecoderSizes } from "../../src/pipelines/graph/merged-decoder.ts";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { openBackend } from "../../src/runner/open-backend.ts";
import { BareDecoder } from "./bare-decoder.ts";
import { percentile, row, type Row } from "./row.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const FOLDER = join(import.meta.dirname, "..", "..", ".cache", "bench");
const DEVICE = { kind: "cpu", index: 0, threads: 2 } as const;
/** Steps that are measured, after some that warm up. */
const STEPS = 60;
const WARM_UP = 5;

interface Geometry extends DecoderSizes {
  readonly name: string;
  /** Rows of the encoder's output, its tokens and its width. */
  readonly hidden: readonly [number, number, number];
  readonly masked: boolean;
  /** Rows of ids: one per codebook for MusicGen. */
  readonly idRows: number;
}

const GEOMETRIES: readonly Geometry[] = [
  { name: "whisper-base", hidden: [1, 1_500, 512], masked: false, idRows: 1, layers: 6, heads: 8, headSize: 64, vocabulary: 51_865 },
  { name: "musicgen-small", hidden: [2, 16, 768], masked: true, idRows: 8, layers: 24, heads: 16, headSize: 64, vocabulary: 2_048 },
];

/**
 * One decoding step at real sizes, with random weights (scripts/export/decoder_geometry.py): ours over what a C program would call, and over
 * the way through this process' memory that onnxruntime-node leaves. Each pair takes its steps in turns, at the same positions.
 */
export async function decoderRows(): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const geometry of GEOMETRIES) {
    const path = join(FOLDER, geometry.name, "decoder_model_merged.onnx");
    if (existsSync(path)) rows.push(...(await measure(geometry, path)));
    else process.stderr.write(`bench: ${path} is missing: python scripts/export/decoder_geometry.py ${geometry.name} makes it\n`);
  }
  return rows;
}

async function measure(geometry: Geometry, path: string): Promise<readonly Row[]> {
  const hidden = randomTensor(geometry.hidden);
  const open = (runtime: "c" | "node"): Promise<Stepper> => openOurs(geometry, path, hidden, runtime);
  const name = `${geometry.name}: a decoding step`;
  const bare = await compare(geometry, await open("c"), await BareDecoder.open({ ...geometry, path, device: DEVICE, hidden }));
  // By itself: what this way leaves to the garbage collector would be collected in the others' time.
  const today = await compare(geometry, await open("c"), await open("node"));
  return [
    row({
      name: `${name} over the bare C API (quartiles ${bare.quartiles})`,
      unit: "ms",
      ours: bare.ours,
      bare: bare.ours / bare.ratio,
      goal: { text: "<= 1.05", met: ({ ratio }) => ratio <= 1.05 },
    }),
    row({
      name: `${name} over all caches through this process' memory (quartiles ${today.quartiles})`,
      unit: "ms",
      ours: today.ours,
      bare: today.ours / today.ratio,
    }),
    row({ name: `${name}: bytes that cross`, unit: "KiB", ours: today.crossed[0] / 1_024, bare: today.crossed[1] / 1_024 }),
  ];
}

interface Compared {
  /** Medians: of the first one's steps, ms, and of its steps over the other's. */
  readonly ours: number;
  readonly ratio: number;
  readonly quartiles: string;
  readonly crossed: readonly [number, number];
}

/** Closes both. */
async function compare(geometry: Geometry, ours: Stepper, other: Stepper): Promise<Compared> {
  const spent: [number[], number[]] = [[], []];
  for (let step = 0; step < WARM_UP + STEPS; step++) {
    const ids = Array.from({ length: geometry.idRows }, (_, at) => [(step * 7 + at) % geometry.vocabulary]);
    // Whoever comes first finds the caches full of the other's weights.
    for (const at of step % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      const startedAt = performance.now();
      await (at === 0 ? ours : other).step(ids);
      if (step >= WARM_UP) spent[at].push(performance.now() - startedAt);
    }
  }
  const crossed = [ours.crossedBytes(), other.crossedBytes()] as const;
  await Promise.all([ours.close(), other.close()]);
  const ratios = spent[0].map((ms, at) => ms / (spent[1][at] ?? NaN));
  const quartiles = `${percentile(ratios, 25).toFixed(3)} to ${percentile(ratios, 75).toFixed(3)}`;
  return { ours: percentile(spent[0], 50), ratio: percentile(ratios, 50), quartiles, crossed };
}

interface Stepper {
  readonly step: (ids: readonly (readonly number[])[]) => unknown;
  /** By the last step. */
  readonly crossedBytes: () => number;
  readonly close: () => unknown;
}

async function openOurs(geometry: Geometry, path: string, hidden: Tensor, runtime: "c" | "node"): Promise<Stepper> {
  const session = await openBackend({ device: DEVICE }, runtime).open(path);
  const decoder = new MergedDecoder({ part: geometry.name, session, names: { inputs: {}, outputs: {} } }, geometry, geometry.masked);
  const decoding = decoder.begin(hidden);
  const crossed = (): number => session.traffic.toDevice + session.traffic.toHost;
  let last = 0;
  return {
    async step(ids) {
      const before = crossed();
      await decoding.step(ids);
      last = crossed() - before;
    },
    crossedBytes: () => last,
    async close() {
      decoding[Symbol.dispose]();
      await session.release();
    },
  };
}

/** Small numbers that differ. */
function randomTensor(dims: readonly number[]): Tensor {
  const size = dims.reduce((product, count) => product * count, 1);
  return { type: "float32", data: Float32Array.from({ length: size }, (_, i) => Math.sin(i * 12.9898)), dims };
}
