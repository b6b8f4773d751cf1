/**
 * Random open, run, bind, terminate, release and garbage collections over several sessions of the C API, each result against the known
 * answer; for valgrind or glibc's checking allocator (scripts/verify fuzz-runtime). Run: node --expose-gc scripts/fuzz-runtime.ts
 *   --minutes N   how long (10)
 *   --steps N     how many steps at most
 *   --seed N      of the first round (the time); each round is 2,000 steps, with the next seed
 *   --misuse      releases a value twice at the end: the check must catch it
 */
import { parseArgs } from "node:util";
import { openOrtBackend } from "../src/runner/ort/ort-backend.ts";
import { openEnvironment } from "../src/runner/ort/environment.ts";
import { hostValue } from "../src/runner/ort/tensor-value.ts";
import { filled, fuzzRuntime } from "../test/support/runtime-fuzz.ts";

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
    open: () => openOrtBackend({ device: { kind: "cpu", index: 0, threads: 1 } }),
    goOn: (step) => step < Math.min(ROUND, most - total.steps) && Date.now() < until,
  });
  for (const key of ["steps", "opens", "runs", "ended"] as const) total[key] += figures[key];
}
console.log(
  `fuzz: ${total.steps} steps, ${total.opens} opens, ${total.runs} runs and releases, ${total.ended} ended early, no wrong result`,
);
console.log(`fuzz: ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB resident at the end`);

if (values.misuse === true) {
  const env = await openEnvironment();
  const { pointer } = hostValue(env, "x", filled(1, 4));
  env.library.call.ReleaseValue(pointer);
  env.library.call.ReleaseValue(pointer);
}
