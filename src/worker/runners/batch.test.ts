import assert from "node:assert/strict";
import { after, test } from "node:test";
import { FakeRunner, type FakeRunnerOptions } from "../../../test/support/fake-runner.ts";
import { fakeManifest } from "../../../test/fixtures/runner-rig.ts";
import { CPU_DEVICE, until } from "../../../test/support/worker-rig.ts";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Member, RunOutcome, Seat } from "./batch-seat.ts";
import { Batch } from "./batch.ts";

const dir = mkdtempSync(join(tmpdir(), "dryapi-batch-"));
after(() => rmSync(dir, { recursive: true }));

interface Rig {
  readonly process: FakeRunner;
  readonly batch: Batch;
  readonly stages: string[];
}

function open(options: FakeRunnerOptions = {}): Rig {
  const manifest = fakeManifest();
  const process = new FakeRunner(options);
  const stages: string[] = [];
  const fixed = { id: "r1", model: "fake", device: CPU_DEVICE, loadMs: 1, loadedAt: 1, provenAt: 1 };
  const batch = new Batch({ ...fixed, manifest, process }, { onStage: (stage) => stages.push(stage) });
  return { process, batch, stages };
}

interface Came {
  readonly outcome: Promise<RunOutcome>;
  readonly cancel: AbortController;
  readonly events: string[];
}

function come(seat: Seat, id: string, onStart: Member["onStart"] = async () => undefined): Came {
  const cancel = new AbortController();
  const events: string[] = [];
  const job = { id, task: "txt2img", params: {}, inputs: [], outDir: dir } as const;
  const outcome = seat.run({ job, signal: cancel.signal, onStart, onEvent: ({ type }) => events.push(type) });
  return { outcome, cancel, events };
}

async function kinds(...came: readonly Came[]): Promise<readonly string[]> {
  return Promise.all(came.map(async ({ outcome }) => (await outcome).kind));
}

test("waits for its close and for every seat, then runs all that came", async () => {
  const { process, batch } = open();
  const [first, second] = [batch.seat(), batch.seat()];
  const a = come(first, "a");
  const done = batch.close();
  assert.equal(process.isBusy, false);
  const b = come(second, "b");
  await until("it runs", () => process.isBusy);
  for (const { outcome } of [a, b])
    void outcome.then((ended) => {
      if (ended.kind === "done") ended.recorded();
    });
  await Promise.all([process.batch.done("a"), process.batch.done("b")]);
  process.batch.end();
  assert.deepEqual(await kinds(a, b), ["done", "done"]);
  assert.deepEqual(await done, { reusable: true });
});

test("a seat that is left keeps nobody waiting; an empty batch is over at once", async () => {
  const { process, batch } = open();
  const [first, second] = [batch.seat(), batch.seat()];
  const a = come(first, "a");
  void batch.close();
  second[Symbol.dispose]();
  await until("it runs", () => process.isBusy);
  await process.batch.fail("INVALID_INPUT", "a");
  process.batch.end();
  const ended = await a.outcome;
  assert.equal(ended.kind === "failed" && ended.alone, true, "it ran alone though two had seats");
  assert.deepEqual(await open().batch.close(), { reusable: true });
});

test("disposing a seat that came does nothing", async () => {
  const { process, batch } = open();
  const seat = batch.seat();
  const a = come(seat, "a");
  seat[Symbol.dispose]();
  void batch.close();
  await until("it runs", () => process.isBusy);
  process.crash();
  assert.deepEqual(await kinds(a), ["failed"]);
});

test("the runner holds the files until each is recorded", async () => {
  const { process, batch } = open();
  const a = come(batch.seat(), "a");
  void batch.close();
  await until("it runs", () => process.isBusy);
  let isAcknowledged = false;
  const acknowledged = process.batch.done("a").then(() => (isAcknowledged = true));
  const ended = await a.outcome;
  assert.equal(ended.kind, "done");
  assert.equal(isAcknowledged, false);
  if (ended.kind === "done") ended.recorded();
  assert.equal(await acknowledged, true);
  process.batch.end();
});

test("an abort before the dispatch ends that job's wait alone", async () => {
  const { process, batch } = open();
  const [first, second] = [batch.seat(), batch.seat()];
  const a = come(first, "a");
  a.cancel.abort();
  assert.deepEqual(await kinds(a), ["not-run"]);
  const b = come(second, "b");
  void batch.close();
  await until("it runs", () => process.isBusy);
  assert.deepEqual(
    process.batch.jobs.map(({ id }) => id),
    ["b"],
  );
  process.crash();
  await b.outcome;
});

test("an abort during the announcement takes the job out of the run", async () => {
  const { process, batch } = open();
  const announcing = Promise.withResolvers<void>();
  const a = come(batch.seat(), "a", () => announcing.promise);
  const done = batch.close();
  a.cancel.abort();
  assert.deepEqual(await kinds(a), ["not-run"]);
  announcing.resolve();
  assert.deepEqual(await done, { reusable: true });
  assert.deepEqual(process.batches, []);
});

test("an abort during the run is a cancel of that job", async () => {
  const { process, batch } = open();
  const [a, b] = [come(batch.seat(), "a"), come(batch.seat(), "b")];
  void batch.close();
  await until("it runs", () => process.isBusy);
  a.cancel.abort();
  assert.deepEqual(process.cancelled, ["a"]);
  assert.deepEqual(await kinds(a), ["failed"]);
  process.crash();
  assert.deepEqual(await kinds(b), ["failed"]);
});

test("a runner that is gone before the dispatch has run nobody", async () => {
  const { process, batch } = open();
  const [a, b] = [come(batch.seat(), "a", async () => process.crash()), come(batch.seat(), "b")];
  assert.deepEqual(await batch.close(), { reusable: false });
  assert.deepEqual(await kinds(a, b), ["not-run", "not-run"]);
});

test("a crash is each unfinished member's; a kill by us is nobody's", async () => {
  for (const [end, expected] of [
    ["crash", ["failed", "failed"]],
    ["kill", ["failed", "not-run"]],
  ] as const) {
    const { process, batch } = open();
    const [a, b] = [come(batch.seat(), "a"), come(batch.seat(), "b")];
    const done = batch.close();
    await until("it runs", () => process.isBusy);
    await process.batch.fail("PIPELINE_FAILED", "a");
    if (end === "crash") process.crash();
    else await process.kill("shutdown");
    assert.deepEqual(await kinds(a, b), expected);
    assert.deepEqual(await done, { reusable: false });
    const ended = await a.outcome;
    assert.equal(ended.kind === "failed" && ended.alone, false);
  }
});

test("a start that throws, and a dispatch that throws, fail all members and give the runner up", async () => {
  const starting = open();
  const bad = come(starting.batch.seat(), "a", () => Promise.reject(new Error("EMFILE")));
  const good = come(starting.batch.seat(), "b");
  assert.deepEqual(await starting.batch.close(), { reusable: false });
  assert.deepEqual(await kinds(bad, good), ["failed", "failed"]);

  const dispatching = open();
  dispatching.process.runBatch = () => Promise.reject(new Error("EMFILE"));
  const only = come(dispatching.batch.seat(), "a");
  assert.deepEqual(await dispatching.batch.close(), { reusable: false });
  const ended = await only.outcome;
  assert.equal(ended.kind === "failed" && ended.error.code, "INTERNAL");
});

test("a runner that wants to be replaced is not used again", async () => {
  const { process, batch } = open();
  come(batch.seat(), "a");
  const done = batch.close();
  await until("it runs", () => process.isBusy);
  await process.batch.fail("DEVICE_UNAVAILABLE", "a");
  process.batch.end(false);
  assert.deepEqual(await done, { reusable: false });
});

test("a stage is the whole batch's, progress one job's", async () => {
  const { process, batch, stages } = open();
  const [a, b] = [come(batch.seat(), "a"), come(batch.seat(), "b")];
  void batch.close();
  await until("it runs", () => process.isBusy);
  process.batch.event({ type: "stage", stage: "denoise" });
  process.batch.event({ type: "progress", id: "a", fraction: 0.5, stage: "denoise", step: 1, steps: 2, stepMs: 1 });
  process.batch.event({ type: "progress", id: "nobody", fraction: 0.5, stage: "denoise", step: 1, steps: 2, stepMs: 1 });
  assert.deepEqual(stages, ["denoise"]);
  assert.deepEqual([a.events, b.events], [["stage", "progress"], ["stage"]]);
  process.crash();
  await Promise.all([a.outcome, b.outcome]);
});
