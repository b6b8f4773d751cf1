import type { JobParams } from "../../src/protocol/job.ts";
import type { JobResult } from "../../src/protocol/result.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../../test/support/system.ts";
import { percentile, row, type Row } from "./row.ts";

const MODEL = "tiny-flux-dev";
const ROUNDS = 7;
/** About 2 s on two cores: the goals speak of jobs of that length. */
const STEPS = 50;
const base = (seed: number, steps: number): JobParams => ({
  prompt: `a lighthouse at dusk, number ${seed}`,
  width: 512,
  height: 512,
  steps,
  guidance: 3.5,
  seed,
});

interface Run {
  readonly result: JobResult;
  /** Claim to the queue's finish, milliseconds. */
  readonly claimToFinishMs: number;
  /** Sum of the native session runs inside. */
  readonly sessionMs: number;
}

/** What the daemon, the runner and the pipeline add to the bare session runs of a Flux job. */
export async function fluxRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const worker = await system.startWorker({ DRYAPI_LOG_LEVEL: "debug" });
  await run(system, worker, base(9_000, 2));
  const overhead: Run[] = [];
  for (let seed = 0; seed < ROUNDS; seed += 1) overhead.push(await run(system, worker, base(seed, STEPS)));
  const repeated: Run[] = [];
  for (let seed = 0; seed < ROUNDS; seed += 1) repeated.push(await run(system, worker, { ...base(seed, 1), seed: seed + 100 }));
  const fresh: Run[] = [];
  for (let seed = 0; seed < ROUNDS; seed += 1) fresh.push(await run(system, worker, { ...base(seed + 1_000, 1), seed: seed + 100 }));
  const delayP99Ms = await eventLoopP99Ms(worker);
  await worker.stop();
  const [withPreviews, without] = await previewCost(system);
  const ratios = overhead.map((each) => each.claimToFinishMs / each.sessionMs);
  const middle = percentile(ratios, 50);
  const bareMs = percentile(
    overhead.map((each) => each.sessionMs),
    50,
  );
  return [
    row({
      name: `Flux 512x512, ${STEPS} steps: claim to finished over its session runs`,
      unit: "ms",
      ours: bareMs * middle,
      bare: bareMs,
      goal: { text: "<= 1.05", met: ({ ratio }) => ratio <= 1.05 },
    }),
    row({
      name: "Flux with previews over without",
      unit: "ms",
      ours: withPreviews,
      bare: without,
      goal: { text: "<= 1.02", met: ({ ratio }) => ratio <= 1.02 },
    }),
    row({
      name: "Flux, 1 step, repeated prompt over a new one (embedding cache)",
      unit: "ms",
      ours: percentile(
        repeated.map((each) => each.result.timings.runMs),
        50,
      ),
      bare: percentile(
        fresh.map((each) => each.result.timings.runMs),
        50,
      ),
    }),
    row({
      name: "daemon's event-loop delay while Flux runs, p99",
      unit: "ms",
      ours: delayP99Ms,
      goal: { text: "< 20 ms", met: (r) => r.ours < 20 },
    }),
  ];
}

async function run(system: TestSystem, worker: WorkerProcess, params: JobParams): Promise<Run> {
  const id = await system.submit({ model: MODEL, params, timeoutMs: 600_000 });
  const view = await system.ended(MODEL, id);
  if (view.result === null) throw new Error(`bench: job ${id} failed: ${view.failedReason}`);
  const line = await worker.line((each) => each["job"] === id && typeof each["sessionMs"] === "number");
  return {
    result: view.result,
    claimToFinishMs: (view.finishedAt ?? 0) - (view.processedAt ?? 0),
    sessionMs: line["sessionMs"] as number,
  };
}

/** Milliseconds of a run with and without previews, interleaved over fresh workers so that drift hits both. */
async function previewCost(system: TestSystem): Promise<readonly [number, number]> {
  const times: Record<"on" | "off", number[]> = { on: [], off: [] };
  for (const mode of ["on", "off", "on", "off"] as const) {
    const worker = await system.startWorker({ DRYAPI_LOG_LEVEL: "debug", DRYAPI_PREVIEWS: mode === "on" ? "1" : "0" });
    await run(system, worker, base(1, 2));
    for (let i = 0; i < 3; i += 1) times[mode].push((await run(system, worker, base(1, STEPS))).claimToFinishMs);
    await worker.stop();
  }
  return [percentile(times.on, 50), percentile(times.off, 50)];
}

async function eventLoopP99Ms(worker: WorkerProcess): Promise<number> {
  const text = await (await fetch(`${worker.admin}/metrics`)).text();
  const found = /dryapi_event_loop_delay_seconds\{at="p99"\} ([\d.e-]+)/.exec(text);
  return Number(found?.[1] ?? NaN) * 1_000;
}
