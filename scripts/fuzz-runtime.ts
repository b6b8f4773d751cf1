/**
 * Random open, run, bind, terminate, release and garbage collections over several sessions of the C API, each result against the known
 * answer; for valgrind or glibc's checking allocator (scripts/verify fuzz-runtime). Every other round has no arena, so that the allocator
 * sees each tensor. Run: node --expose-gc scripts/fuzz-runtime.ts
 *   --minutes N   how long (10)
 *   --steps N     how many steps at most
 *   --seed N      of the first round (the time); each round is 2,000 steps, with the next seed
 *   --misuse      writes 8 bytes beyond an array at the end: the check must catch it
 */
import { setImmediate as turn } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Tensor } from "../src/pipelines/backend.ts";
import { openOrtBackend } from "../src/runner/ort/ort-backend.ts";
import { openEnvironment } from "../src/runner/ort/environment.ts";
import { filled, fuzzRuntime } from "../test/support/runtime-fuzz.ts";

/** ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT. */
const FLOAT = 1;
const ROUND = 2000;
const { values } = parseArgs({
  options: { minutes: { type: "string" }, steps: { type: "string" }, seed: { type: "string" }, misuse: { type: "boolean" } },
});
process.env["ORT_DISABLE_TELEMETRY"] = "1";
const until = Date.now() + Number(values.minutes ?? "10") * 60_000;
const most = Number(values.steps ?? "Infinity");
const first = Number(values.seed ?? Date.now() % 1_000_000);
if (!Number.isFinite(until) || Number.isNaN(most) || !Number.isFinite(first))
  throw new TypeError("--minutes, --steps and --seed are numbers");

const total = { steps: 0, opens: 0, runs: 0, ended: 0 };
for (let seed = first; Date.now() < until && total.steps < most; seed += 1) {
  console.log(`fuzz: seed ${seed}`);
  const figures = await fuzzRuntime({
    seed,
    open: () =>
      openOrtBackend({ device: { kind: "cpu", index: 0, threads: 1 }, runtime: () => ({ enable_cpu_mem_arena: seed % 2 === 0 }) }),
    goOn: (step) => step < Math.min(ROUND, most - total.steps) && Date.now() < until,
  });
  for (const key of ["steps", "opens", "runs", "ended"] as const) total[key] += figures[key];
}
console.log(
  `fuzz: ${total.steps} steps, ${total.opens} opens, ${total.runs} runs and releases, ${total.ended} ended early, no wrong result`,
);
console.log(`fuzz: ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB resident at the end`);

if (values.misuse === true) {
  // A value that is larger than the memory behind it, as nobody would notice who does not look: written to its end.
  const env = await openEnvironment();
  let small: Tensor | null = filled(0, 18);
  const [floats, { library }] = [20, env];
  const { CreateTensorWithDataAsOrtValue: create, ReleaseValue: release } = library.call;
  const value = create(env.hostMemory, library.addressOf(small.data), 4 * floats, BigInt64Array.of(BigInt(floats)), 1, FLOAT);
  new Float32Array(library.view(library.call.GetTensorMutableData(value), 4 * floats)).fill(1);
  release(value);
  small = null;
  for (let at = 0; at < 10; at += 1) {
    globalThis.gc?.();
    await turn();
  }
}
