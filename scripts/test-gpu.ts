/**
 * `node scripts/test-gpu.ts [--device cuda|cpu] [--out DIR]`: every test whose answer depends on the device, on a GPU. Needs no network: a
 * checkout with its node_modules, the CUDA libraries (docs/gpu-host.md), and the programs below. Results go to DIR as JSON, the summary
 * to DIR/tests.json. With `--device cpu` everything but the numbers is the same; `scripts/verify gpu` does that.
 *
 * Exit codes: 0 all passed; 1 a test failed; 2 wrong arguments; 3 nothing failed, and some were not run for want of a program.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { arch, cpus, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { parseArgs } from "node:util";
import { findProgram } from "../src/lib/find-program.ts";
import { nvidiaSmi } from "../src/nvidia/nvidia-smi.ts";
import { runnerEnv } from "../src/worker/runners/runner-env.ts";

const ROOT = join(import.meta.dirname, "..");
const TIMEOUT_MS = 900_000;

/** Test files, and the programs that they need beside onnxruntime. */
const FILES: readonly { readonly file: string; readonly needs: readonly string[] }[] = [
  { file: "test/conformance/runtime.test.ts", needs: [] },
  { file: "test/conformance/runtime-binding.test.ts", needs: [] },
  { file: "test/conformance/runtime-guard.test.ts", needs: [] },
  { file: "test/integration/busy-runner.test.ts", needs: [] },
  { file: "test/integration/flux-golden.test.ts", needs: [] },
  { file: "test/integration/flux-pipeline.test.ts", needs: [] },
  { file: "test/integration/whisper-golden.test.ts", needs: ["ffmpeg"] },
  { file: "test/integration/step-traffic.test.ts", needs: [] },
  { file: "test/integration/decoder-traffic.test.ts", needs: [] },
  { file: "test/integration/bindings-end.test.ts", needs: ["ffmpeg"] },
  { file: "test/integration/overlap.test.ts", needs: ["ffmpeg"] },
  { file: "test/integration/ltx-golden.test.ts", needs: ["ffmpeg", "ffprobe"] },
  { file: "test/integration/transcription.test.ts", needs: ["ffmpeg"] },
  { file: "test/integration/musicgen.test.ts", needs: ["ffmpeg"] },
  { file: "test/integration/speech.test.ts", needs: ["ffmpeg", "espeak-ng"] },
  { file: "test/gpu/placement.gpu.test.ts", needs: ["ffmpeg", "espeak-ng"] },
  { file: "test/gpu/decoder.gpu.test.ts", needs: [] },
  { file: "test/gpu/memory.gpu.test.ts", needs: ["ffmpeg", "espeak-ng"] },
  { file: "test/gpu/daemon.gpu.test.ts", needs: ["redis-server", "ffmpeg", "espeak-ng"] },
];

interface TestEnd {
  readonly file: string;
  readonly name: string;
  readonly passed: boolean;
  readonly ms: number;
  readonly error?: string;
}

const { values } = parseArgs({ options: { device: { type: "string", default: "cuda" }, out: { type: "string" } } });
const device = values.device;
if (device !== "cuda" && device !== "cpu") {
  process.stderr.write(`test-gpu: --device is ${device}, expected cuda or cpu\n`);
  process.exit(2);
}
const out = resolve(values.out ?? process.env["OUT"] ?? join(ROOT, ".cache", "gpu"));
const gpus = device === "cuda" ? await gpusOrExit() : [];
const missing = new Set([...new Set(FILES.flatMap(({ needs }) => needs))].filter((name) => findProgram(name) === null));
const [chosen, left] = [
  FILES.filter(({ needs }) => !needs.some((name) => missing.has(name))),
  FILES.filter(({ needs }) => needs.some((name) => missing.has(name))),
];

await mkdir(out, { recursive: true });
// What a runner on this device gets as well: the libraries of `dryapi fetch-cuda`, the order of the GPUs.
const LIKE_A_RUNNER = new Set(["LD_LIBRARY_PATH", "DRYAPI_ORT_DIR", "CUDA_DEVICE_ORDER", "UV_THREADPOOL_SIZE", "ORT_DISABLE_TELEMETRY"]);
const likeARunner = Object.entries(runnerEnv(process.env, { kind: device })).filter(([name]) => LIKE_A_RUNNER.has(name));
Object.assign(process.env, Object.fromEntries(likeARunner), { TEST_DEVICE: device, OUT: out });
const ends = await runAll(chosen.map(({ file }) => file));
const failed = ends.filter(({ passed }) => !passed);
const notRun = left.map(({ file, needs }) => ({ file, missing: needs.filter((name) => missing.has(name)) }));
const machine = {
  node: process.version,
  arch: arch(),
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryBytes: totalmem(),
  gpus,
};
await writeFile(join(out, "tests.json"), `${JSON.stringify({ device, machine, tests: ends, notRun }, null, 2)}\n`);

for (const { file, missing: names } of notRun) process.stdout.write(`not run: ${file}: ${names.join(", ")} is not in the PATH\n`);
for (const { file, name } of failed) process.stdout.write(`failed: ${file}: ${name}\n`);
process.stdout.write(
  `${device}: ${ends.length - failed.length} of ${ends.length} tests passed, ${notRun.length} files not run; results in ${out}\n`,
);
process.exitCode = failed.length > 0 || ends.length === 0 ? 1 : notRun.length > 0 ? 3 : 0;

async function gpusOrExit(): Promise<readonly (readonly string[])[]> {
  let said = "";
  const rows = await nvidiaSmi(["--query-gpu=index,name,driver_version,memory.total"], (words) => (said = words));
  if (rows !== null && rows.length > 0) return rows;
  process.stderr.write(`test-gpu: no GPU to test (${said}); --device cpu runs the same on the processor\n`);
  process.exit(2);
}

async function runAll(files: readonly string[]): Promise<readonly TestEnd[]> {
  const found: TestEnd[] = [];
  // One file at a time: they measure memory and share the device.
  const stream = run({ files: files.map((file) => join(ROOT, file)), concurrency: 1, timeout: TIMEOUT_MS });
  const keep =
    (passed: boolean) => (data: { name: string; file?: string; details: { duration_ms: number; type?: string; error?: Error } }) => {
      if (data.details.type === "suite") return;
      const error = data.details.error;
      found.push({
        file: (data.file ?? "").replace(`${ROOT}/`, ""),
        name: data.name,
        passed,
        ms: Math.round(data.details.duration_ms),
        ...(error !== undefined && { error: error.cause instanceof Error ? error.cause.message : error.message }),
      });
    };
  stream.on("test:pass", keep(true));
  stream.on("test:fail", keep(false));
  await pipeline(stream, new spec(), async (texts: AsyncIterable<unknown>) => {
    for await (const text of texts) process.stdout.write(String(text));
  });
  return found;
}
