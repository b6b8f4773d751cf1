import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseManifest } from "../../src/protocol/manifest.ts";
import { startRunner } from "../../src/worker/runners/runner-process.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { residentBytes } from "./resident-bytes.ts";
import { percentile, row, type Row } from "./row.ts";

const MODEL = "tiny-flux-schnell";
const DIR = join(import.meta.dirname, "..", "..", "models", MODEL);
const ENTRY = join(dirname(BUILT_CLI), "runner", "main.js");
const ROUNDS = 15;
const JOBS = 3;
const PARAMS = { prompt: "a boat", width: 128, height: 128, steps: 2, seed: 1 };

interface Start {
  readonly readyMs: number;
  /** Of all threads, from the start of the process to `ready`: what a busy machine does not change. */
  readonly cpuMs: number;
  readonly loadedBytes: number;
  readonly workedBytes: number;
}

/** A runner with the tiny Flux on onnxruntime's C API over one on onnxruntime-node's own: turn by turn, medians. */
export async function runnerRows(): Promise<readonly Row[]> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-bench-runner-"));
  const starts = { c: [] as Start[], node: [] as Start[] };
  try {
    // The first of each brings its files into the page cache.
    for (const api of ["c", "node"] as const) await start(api, dir);
    for (let round = 0; round < ROUNDS; round += 1) {
      const order = round % 2 === 0 ? (["c", "node"] as const) : (["node", "c"] as const);
      for (const api of order) starts[api].push(await start(api, dir));
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  const compare = (name: string, unit: string, of: (start: Start) => number): Row =>
    row({
      name: `runner, C API over node's: ${name}`,
      unit,
      ours: percentile(starts.c.map(of), 50),
      bare: percentile(starts.node.map(of), 50),
      goal: { text: "<= 1.05", met: ({ ratio }) => ratio <= 1.05 },
    });
  return [
    compare("spawn to ready", "ms", ({ readyMs }) => readyMs),
    compare("CPU time until ready", "ms", ({ cpuMs }) => cpuMs),
    compare("RSS after the load", "MiB", ({ loadedBytes }) => loadedBytes / 2 ** 20),
    compare(`RSS after ${JOBS} jobs`, "MiB", ({ workedBytes }) => workedBytes / 2 ** 20),
  ];
}

async function start(api: "c" | "node", dir: string): Promise<Start> {
  const path = join(DIR, "model.json");
  const manifest = parseManifest(JSON.parse(await readFile(path, "utf8")), path);
  const startedAt = performance.now();
  await using runner = await startRunner({
    manifest,
    modelDir: DIR,
    device: { id: "cpu:0", kind: "cpu", index: 0, threads: 1 },
    previews: false,
    embeddingCacheBytes: 0,
    cancelGraceMs: 1_000,
    entry: ENTRY,
    env: { ...process.env, DRYAPI_RUNTIME: api },
    log: { debug: () => undefined, warn: () => undefined },
  });
  const { runtime } = await runner.ready;
  const readyMs = performance.now() - startedAt;
  if (runtime?.api !== api) throw new Error(`asked for ${api}, got ${JSON.stringify(runtime)}`);
  const cpuMs = await cpuTimeMs(runner.pid ?? 0);
  const loadedBytes = await residentBytes(runner.pid ?? 0);
  for (let id = 0; id < JOBS; id += 1) {
    const outDir = await mkdtemp(join(dir, "out-"));
    const { jobs } = await runner.runBatch({
      batch: `b${id}`,
      jobs: [{ id: `${id}`, task: "txt2img", params: PARAMS, inputs: [], outDir }],
    });
    const end = jobs.get(`${id}`);
    if (end?.kind !== "done") throw new Error(`a job of ${MODEL} ended as ${JSON.stringify(end)}`);
  }
  return { readyMs, cpuMs, loadedBytes, workedBytes: await residentBytes(runner.pid ?? 0) };
}

/** In steps of 10 ms, the kernel's own. */
async function cpuTimeMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // Behind the name in parentheses: state is the first field, user and system time are the twelfth and thirteenth.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
