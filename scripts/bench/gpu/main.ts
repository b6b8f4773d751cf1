/**
 * `node scripts/bench/gpu/main.ts [--device cuda|cpu] [--small] [--only flux|whisper] [--python PATH] [--into DIR] [--out FILE]`: FLUX.1 and
 * Whisper large at their real sizes with drawn weights, ours over torch on the same device. Needs no network:
 *
 *   the graphs       `python scripts/export/geometry.py [--small]`, here or elsewhere: some MB, in DIR (.cache/geometry)
 *   the weights      are drawn into DIR at the first run: 35 GB for flux, 3 GB for whisper
 *   torch            where PATH (python3) has torch, diffusers and transformers; else its columns are empty, and the report says why
 *
 * `--small` is the same at widths that a processor runs in seconds. There torch is needed, and its results must be equal to 1e-3 (in float16 3e-2):
 * that is what `scripts/verify gpu-bench` proves. Exit codes: 0; 1 something is wrong; 2 wrong arguments.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";
import { nvidiaSmi } from "../../../src/nvidia/nvidia-smi.ts";
import { runtimeFacts } from "../../../src/runner/runtime-facts.ts";
import { formatTable, row, type Row } from "../row.ts";
import { fillWeights } from "./fill-weights.ts";
import { measureFlux } from "./flux-geometry.ts";
import type { Bench, PartResult, TorchResult } from "./geometry.ts";
import { measureWhisper } from "./whisper-geometry.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
/** Of the largest value. In float16 a value has 11 bits, and torch and onnxruntime round in different places. */
const TOLERANCES = { float32: 1e-3, float16: 3e-2 } as const;
/** Of the process that draws the weights, and of torch. */
const TORCH_TIMEOUT_MS = 3_600_000;
/** Of this process while it draws weights, however many there are. */
const FILL_LIMIT_BYTES = 512 * 2 ** 20;
const FAMILIES = ["flux", "whisper"] as const;

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    small: { type: "boolean", default: false },
    only: { type: "string" },
    python: { type: "string", default: "python3" },
    into: { type: "string", default: join(ROOT, ".cache", "geometry") },
    out: { type: "string" },
  },
});
const { device: kind, small, only } = values;
if ((kind !== "cuda" && kind !== "cpu") || (only !== undefined && !FAMILIES.some((name) => name === only))) {
  process.stderr.write(`bench: --device is ${kind} (cuda or cpu), --only is ${only ?? "not given"} (${FAMILIES.join(" or ")})\n`);
  process.exit(2);
}
process.env["ORT_DISABLE_TELEMETRY"] = "1";
process.env["TEST_DEVICE"] = kind;
const device = { kind, index: 0, threads: 0 } as const;
const [size, steps] = small ? [128, 2] : [1024, 4];

const rows: Row[] = [];
const results: Record<string, unknown> = {};
const wrong: string[] = [];
for (const family of FAMILIES.filter((name) => only === undefined || name === only)) {
  const folder = resolve(values.into, small ? `${family}-small` : family);
  if (!existsSync(join(folder, "weights.json"))) {
    process.stderr.write(
      `bench: ${folder} has no graphs: python scripts/export/geometry.py ${family}${small ? " --small" : ""} makes them\n`,
    );
    process.exit(2);
  }
  const { precision } = JSON.parse(await readFile(join(folder, "geometry.json"), "utf8")) as {
    readonly precision: keyof typeof TOLERANCES;
  };
  const startedAt = performance.now();
  const weightBytes = await fillWeights(folder);
  const fillMs = performance.now() - startedAt;
  const fillPeakBytes = process.resourceUsage().maxRSS * 1024;
  if (rows.length === 0 && fillPeakBytes > FILL_LIMIT_BYTES)
    wrong.push(`drawing ${weightBytes} bytes of weights took ${fillPeakBytes} bytes of memory`);
  const bench: Bench = { device, folder, torch: await runTorch(folder) };
  if (typeof bench.torch === "string") {
    process.stderr.write(`bench: no comparison with torch: ${bench.torch}\n`);
    if (small) wrong.push(`${family}: torch is needed with --small`);
  }
  if (family === "flux") {
    const found = await measureFlux(bench, size, steps);
    results[family] = { weightBytes, fillMs, fillPeakBytes, torch: bench.torch, ...found };
    rows.push(...partRows(family, found.parts, TOLERANCES[precision]), ...fluxRows(found));
  } else {
    const found = await measureWhisper(bench);
    results[family] = { weightBytes, fillMs, fillPeakBytes, torch: bench.torch, ...found };
    rows.push(
      ...partRows(family, found.parts, TOLERANCES[precision]),
      row({
        name: "whisper: bytes that cross in a step, over the cache",
        unit: "KiB",
        ours: found.stepBytes / 1024,
        bare: found.cacheBytes / 1024,
        ...(!small && { goal: { text: "<= 0.1", met: ({ ratio }) => ratio <= 0.1 } }),
      }),
    );
  }
}
const gpus = kind === "cuda" ? await nvidiaSmi(["--query-gpu=name,driver_version,memory.total"]) : null;
const machine = {
  node: process.version,
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  memoryBytes: totalmem(),
  gpus,
  runtime: await runtimeFacts(),
};
const out = resolve(values.out ?? join(ROOT, ".cache", "gpu", `bench-${kind}${small ? "-small" : ""}.json`));
await mkdir(dirname(out), { recursive: true });
await writeFile(out, `${JSON.stringify({ at: new Date().toISOString(), device: kind, small, machine, results, rows }, null, 2)}\n`);
process.stdout.write(`${formatTable(rows)}\nresults: ${out}\n`);
for (const text of wrong) process.stderr.write(`bench: ${text}\n`);
process.exitCode = wrong.length > 0 ? 1 : 0;

function partRows(family: string, parts: readonly PartResult[], tolerance: number): readonly Row[] {
  return parts.map(({ part, ms, torchMs, difference }) => {
    if (small && difference !== null && !(difference <= tolerance))
      wrong.push(`${family} ${part} differs from torch by ${difference} of its largest value`);
    const text = difference === null ? "" : `, result within ${difference.toExponential(1)} of it`;
    // Small graphs are all overhead: a ratio of them says nothing.
    const goal =
      small || torchMs === null ? {} : { goal: { text: "<= 1.2", met: ({ ratio }: { readonly ratio: number }) => ratio <= 1.2 } };
    return row({ name: `${family}: ${part} over torch${text}`, unit: "ms", ours: ms, ...(torchMs !== null && { bare: torchMs }), ...goal });
  });
}

function fluxRows({ job, cancel, stageBytes }: Awaited<ReturnType<typeof measureFlux>>): readonly Row[] {
  return [
    row({
      name: `flux: a job of ${size} x ${size} in ${steps} steps, over its session runs`,
      unit: "ms",
      ours: job.runMs,
      bare: job.sessionMs,
      ...(!small && { goal: { text: "<= 1.05", met: ({ ratio }) => ratio <= 1.05 } }),
    }),
    row({
      name: `flux: cancel inside a step of ${Math.round(cancel.runMs)} ms to its end, p95`,
      unit: "ms",
      ours: cancel.p95Ms,
      goal: { text: "<= 300 ms", met: ({ ours }) => ours <= 300 },
    }),
    ...Object.entries(stageBytes).map(([stage, bytes]) =>
      row({ name: `flux: memory in use, stage ${stage}`, unit: "MiB", ours: bytes / 2 ** 20 }),
    ),
  ];
}

async function runTorch(folder: string): Promise<TorchResult | string> {
  const dir = join(folder, `torch-${kind}-${size}`);
  const script = join(ROOT, "scripts", "export", "geometry_reference.py");
  try {
    const args = [script, folder, "--device", kind, "--out", dir, "--size", String(size)];
    await promisify(execFile)(values.python, args, { timeout: TORCH_TIMEOUT_MS, maxBuffer: 2 ** 26 });
  } catch (thrown) {
    const { stderr = "", code, signal, message } = thrown as { stderr?: string; code?: number | string; signal?: string; message: string };
    const last = stderr.trim().split("\n").at(-1) ?? "";
    return `${values.python} ended with ${signal ?? code ?? message}${last === "" ? "" : `, its last words: ${last}`}`;
  }
  return { ...(JSON.parse(await readFile(join(dir, "torch.json"), "utf8")) as Omit<TorchResult, "dir">), dir };
}
