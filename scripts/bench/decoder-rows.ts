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
 * the way through this process' memory that onnxruntime-node leaves. The three take their steps in turns, at the same positions.
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
  const [ours, today] = [await openOurs(geometry, path, hidden, "c"), await openOurs(geometry, path, hidden, "node")];
  const bare = await BareDecoder.open({ ...geometry, path, device: DEVICE, hidden });
  const steppers = { ours, bare, today };
  const ways = ["ours", "bare", "today"] as const;
  const spent = { ours: [] as number[], today: [] as number[], bare: [] as number[] };
  for (let step = 0; step < WARM_UP + STEPS; step++) {
    const ids = Array.from({ length: geometry.idRows }, (_, at) => [(step * 7 + at) % geometry.vocabulary]);
    // Whoever comes first finds the caches full of another's weights: each is first as often as the others.
    for (let place = 0; place < ways.length; place++) {
      const way = ways[(step + place) % ways.length] ?? "bare";
      const ms = await timed(() => steppers[way].step(ids));
      if (step >= WARM_UP) spent[way].push(ms);
    }
  }
  const crossed = ours.crossedBytes();
  await Promise.all([ours.close(), today.close()]);
  bare.close();
  const ratios = spent.ours.map((ms, at) => ms / (spent.bare[at] ?? NaN));
  const median = (values: readonly number[]): number => percentile(values, 50);
  const name = `${geometry.name}: a decoding step`;
  return [
    row({
      name: `${name} over the bare C API (quartiles ${percentile(ratios, 25).toFixed(3)} to ${percentile(ratios, 75).toFixed(3)})`,
      unit: "ms",
      ours: median(spent.ours),
      bare: median(spent.ours) / median(ratios),
      goal: { text: "<= 1.05", met: ({ ratio }) => ratio <= 1.05 },
    }),
    row({ name: `${name} over all caches through this process' memory`, unit: "ms", ours: median(spent.ours), bare: median(spent.today) }),
    row({ name: `${name}: bytes that cross`, unit: "KiB", ours: crossed / 1_024, bare: today.crossedBytes() / 1_024 }),
  ];
}

interface Stepper {
  readonly step: (ids: readonly (readonly number[])[]) => Promise<unknown>;
  /** By the last step. */
  readonly crossedBytes: () => number;
  readonly close: () => Promise<void>;
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

async function timed(work: () => unknown): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

/** Small numbers that differ. */
function randomTensor(dims: readonly number[]): Tensor {
  const size = dims.reduce((product, count) => product * count, 1);
  return { type: "float32", data: Float32Array.from({ length: size }, (_, i) => Math.sin(i * 12.9898)), dims };
}
