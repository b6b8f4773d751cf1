import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseFailedReason } from "../../src/protocol/error.ts";
import { samplesOf } from "../support/pipeline-rig.ts";
import { childrenOf, gone, startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";
import { ENDLESS_TEXT, runUnderWay, SHORT_TEXT, SHORT_TURNS, turnsModel } from "../support/turns-model.ts";

const MODEL = "turns";

/** Jobs whose only native run goes on for ever, in a real daemon and its runner: what ends them, and that the runner stays. */
describe("a native run under way", () => {
  let system: TestSystem;
  let worker: WorkerProcess;
  let runner = 0;

  before(async () => {
    system = await startSystem();
    // A cancel that the run did not heed would kill the runner only much later than any wait of a test.
    Object.assign(system.env, { DRYAPI_CANCEL_GRACE_MS: "600s" });
    Object.assign(system.env, await turnsModel(join(system.dir, "models"), { slug: MODEL, graph: "cosines", batch: 2 }));
    worker = await system.startWorker();
    await assertSpoken(await submit(SHORT_TEXT));
    runner = (await childrenOf(worker.pid))[0] ?? 0;
  });
  after(() => system[Symbol.asyncDispose]());

  function submit(text: string, more: { readonly timeoutMs?: number } = {}): Promise<string> {
    return system.submit({ model: MODEL, task: "txt2audio", params: { text }, ...more });
  }

  async function speaking(id: string): Promise<void> {
    await system.event((event) => event.id === id && event.stage === "speak");
    await runUnderWay(runner);
  }

  async function codeOf(id: string): Promise<string> {
    const view = await system.ended(MODEL, id);
    assert.equal(view.state, "failed");
    return parseFailedReason(view.failedReason ?? "").code;
  }

  /** The sound is the cosine, taken as often as the text says, of nothing. */
  async function assertSpoken(id: string): Promise<void> {
    const view = await system.ended(MODEL, id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    const expected = Array.from({ length: SHORT_TURNS }).reduce((x: number) => Math.cos(x), 0);
    const samples = await samplesOf(join(system.dir, "objects", `outputs/${id}/1/audio.wav`));
    assert.equal(samples.length, 8_000);
    assert.ok(
      samples.every((sample) => Math.abs(sample - expected) < 1e-4),
      `${samples[0]}, expected ${expected}`,
    );
  }

  /** One process from the first test to the last, which loaded its model once, and neither it nor a job was taken for at fault. */
  async function assertUnharmed(): Promise<void> {
    assert.deepEqual(await childrenOf(worker.pid), [runner]);
    assert.equal(worker.lines.filter(({ msg }) => msg === "model loaded").length, 1);
    const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
    assert.doesNotMatch(metrics, /^dryapi_runner_crashes_total\{.*\} [1-9]/m);
    assert.doesNotMatch(metrics, /^dryapi_device_quarantined\{.*\} 1/m);
  }

  test("is ended by a cancel, and its runner does the next job", async () => {
    const id = await submit(ENDLESS_TEXT);
    await speaking(id);
    await system.cancel(id);
    assert.equal(await codeOf(id), "CANCELLED");
    await assertSpoken(await submit(SHORT_TEXT));
    await assertUnharmed();
    await system.spoolEmpty();
  });

  test("is ended by the job's time limit", async () => {
    assert.equal(await codeOf(await submit(ENDLESS_TEXT, { timeoutMs: 2_000 })), "JOB_TIMEOUT");
    await assertSpoken(await submit(SHORT_TEXT));
    await assertUnharmed();
  });

  test("is ended for its job alone: the other one of the batch is done", async () => {
    const blocker = await submit(ENDLESS_TEXT);
    await speaking(blocker);
    // They wait for the same runner: they go as one batch.
    const [first, second] = [await submit(ENDLESS_TEXT), await submit(SHORT_TEXT)];
    await system.cancel(blocker);
    await speaking(first);
    assert.equal(await system.state(MODEL, second), "active");
    await system.cancel(first);
    assert.equal(await codeOf(first), "CANCELLED");
    await assertSpoken(second);
    await assertUnharmed();
  });

  test("is ended by SIGTERM once the grace is over: the job is handed back, unspent", async () => {
    const id = await submit(ENDLESS_TEXT);
    await speaking(id);
    assert.equal(await worker.stop(), 0);
    await gone(runner);
    const view = await system.queues.job(MODEL, id);
    assert.deepEqual([view?.state, view?.attemptsMade], ["waiting", 0]);
    await system.cancel(id);
    await system.spoolEmpty();
  });
});
