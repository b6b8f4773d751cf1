import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, it } from "node:test";
import type { RunnerJob } from "../../protocol/ipc.ts";
import { parseManifest } from "../../protocol/manifest.ts";
import { openRunnerRig, type RunnerRig } from "../../../test/fixtures/runner-rig.ts";
import { ENDLESS_TEXT, runUnderWay, SHORT_TEXT, turnsModel } from "../../../test/support/turns-model.ts";
import { realSchedule } from "./runner-deadline.ts";
import type { RunnerProcess } from "./runner-process.ts";
import type { BatchEnd, RunnerEvent, RunnerOptions, Schedule } from "./runner-types.ts";

let rig: RunnerRig;
before(async () => {
  rig = await openRunnerRig();
});
after(() => rig[Symbol.asyncDispose]());

/** A runner whose model runs as long as a job's text says; a stage of it may last so long. */
async function startTurns({
  stageMs = 600_000,
  ...options
}: Partial<RunnerOptions> & { readonly stageMs?: number } = {}): Promise<RunnerProcess> {
  await turnsModel(rig.dir, { slug: "turns", graph: "cosines", stageMs });
  const modelDir = join(rig.dir, "turns");
  const path = join(modelDir, "model.json");
  return rig.startReady({ manifest: parseManifest(JSON.parse(await readFile(path, "utf8")), path), modelDir, ...options });
}

async function speech(id: string, text: string): Promise<RunnerJob> {
  const outDir = join(rig.dir, id);
  await mkdir(outDir, { recursive: true });
  return { id, task: "txt2audio", params: { text }, inputs: [], outDir };
}

/** Runs a batch and cancels `victim` in the middle of its run: of the `nth` stage `speak` of the batch. */
async function runAndCancel(runner: RunnerProcess, jobs: readonly RunnerJob[], victim: string, nth = 1): Promise<BatchEnd> {
  const speaking = Promise.withResolvers<void>();
  let told = 0;
  const onEvent = (event: RunnerEvent): void => {
    if (event.type === "stage" && event.stage === "speak" && ++told === nth) speaking.resolve();
  };
  const running = runner.runBatch({ batch: "b", jobs, onEvent });
  await speaking.promise;
  await runUnderWay(runner.pid ?? 0);
  runner.cancel(victim);
  return running;
}

const kinds = (end: BatchEnd): readonly string[] =>
  [...end.jobs].map(([id, job]) => `${id} ${job.kind === "failed" ? job.error.code : job.kind}`);

it("a cancel inside a run ends it, its job alone, and the runner and its model stay", async () => {
  await using runner = await startTurns();
  const { pid } = runner;
  const jobs = [await speech("before", SHORT_TEXT), await speech("endless", ENDLESS_TEXT), await speech("after", SHORT_TEXT)];
  const end = await runAndCancel(runner, jobs, "endless", 2);
  assert.deepEqual(kinds(end), ["before done", "endless CANCELLED", "after done"]);
  assert.deepEqual([end.reusable, end.exit, runner.state, runner.pid], [true, null, "ready", pid]);
  const resident = Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
  assert.ok(end.rssBytes > resident / 2 && end.rssBytes < resident * 2, `told of ${end.rssBytes} bytes, ${resident} are there`);
  assert.equal(runner.memory.rssBytes, end.rssBytes);
});

it("a cancel that comes before the run ends it too, and neither a ping nor the next batch", async () => {
  await using runner = await startTurns();
  for (const round of [1, 2, 3]) {
    const running = runner.runBatch({ batch: `b${round}`, jobs: [await speech(`early-${round}`, ENDLESS_TEXT)] });
    assert.equal(runner.cancel(`early-${round}`), true);
    assert.deepEqual(kinds(await running), [`early-${round} CANCELLED`]);
    assert.ok((await runner.ping({ timeoutMs: 60_000 })) >= 0);
    const next = await runner.runBatch({ batch: `n${round}`, jobs: [await speech(`next-${round}`, SHORT_TEXT)] });
    assert.deepEqual(kinds(next), [`next-${round} done`]);
  }
});

it("a cancelled job that waits behind another's run costs that run nothing", async () => {
  const graceMs = 600_001;
  let graces = 0;
  const schedule: Schedule = (run, delayMs) => {
    if (delayMs === graceMs) graces += 1;
    return realSchedule(run, delayMs);
  };
  await using runner = await startTurns({ cancelGraceMs: graceMs, schedule });
  const speaking = Promise.withResolvers<void>();
  const running = runner.runBatch({
    batch: "b",
    jobs: [await speech("running", ENDLESS_TEXT), await speech("waiting", SHORT_TEXT)],
    onEvent: (event) => event.type === "stage" && event.stage === "speak" && speaking.resolve(),
  });
  await speaking.promise;
  runner.cancel("waiting");
  assert.equal(graces, 0, "nothing of it is ignored");
  runner.cancel("running");
  assert.equal(graces, 1);
  const end = await running;
  assert.deepEqual([kinds(end).toSorted(), end.exit], [["running CANCELLED", "waiting CANCELLED"], null]);
});

it("a run that is not heard of within its stage's deadline takes its runner with it, as a device that hangs", async () => {
  await using runner = await startTurns({ stageMs: 300 });
  const end = await runner.runBatch({ batch: "b", jobs: [await speech("hung", ENDLESS_TEXT)] });
  assert.deepEqual([kinds(end), end.reusable, end.exit?.reason, end.exit?.crashed], [["hung unfinished"], false, "stage-timeout", true]);
});

it("where onnxruntime-node runs the graph, a run goes on and its runner is killed after the grace, for no fault of its own", async () => {
  await using runner = await startTurns({ cancelGraceMs: 200, env: { ...process.env, TMPDIR: rig.dir, DRYAPI_RUNTIME: "node" } });
  const end = await runAndCancel(runner, [await speech("deaf", ENDLESS_TEXT)], "deaf");
  assert.deepEqual([kinds(end), end.exit?.reason, end.exit?.crashed], [["deaf unfinished"], "cancel", false]);
});
