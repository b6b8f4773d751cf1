import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { JobDoneMessage } from "../../src/protocol/ipc.ts";
import { openRunnerRig } from "../fixtures/runner-rig.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

/** 24,000 of them are 48,000 bytes. */
const FITS = 24_000;

test("a command of several megabytes reaches the runner, and its answer the daemon", async () => {
  await using rig = await openRunnerRig();
  const runner = await rig.startReady();
  const ends: string[] = [];
  const job = await rig.job("large-1", { steps: 2, note: "ж".repeat(4 * 1024 ** 2) });
  const end = await runner.runBatch({
    batch: "b",
    jobs: [job, await rig.job("small-1", { steps: 1 })],
    onJobEnd: async (id, outcome) => void ends.push(`${id} ${outcome.kind}`),
  });
  assert.equal(end.reusable, true);
  assert.deepEqual(ends.toSorted(), ["large-1 done", "small-1 done"]);
});

test("a text of a megabyte does not fail its job; the runner says where it is", async () => {
  await using rig = await openRunnerRig();
  const runner = await rig.startReady();
  const ends: JobDoneMessage[] = [];
  await runner.runBatch({
    batch: "b",
    jobs: [await rig.job("text-1", { text_chars: 1024 ** 2 })],
    onJobEnd: async (_id, outcome) => {
      if (outcome.kind === "done") ends.push(outcome.message);
    },
  });
  assert.deepEqual([ends[0]?.text, ends[0]?.info["text_omitted"]], [undefined, true]);
  await runner.stop({ graceMs: 60_000 });
  assert.match(rig.logged.join("\n"), /job text-1: its text of 1048576 characters is too long/);
});

/** From the runner through the spool and Redis to the client. */
describe("a text result", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;

  before(async () => {
    system = await startSystem();
    await system.startWorker();
    gateway = await startGateway(system);
    api = new ApiClient(gateway.url, await addClient(system));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  test("stands in the result as long as it fits, else only in its file, which the status says", async () => {
    for (const [text_chars, fits] of [
      [FITS, true],
      [FITS * 2, false],
    ] as const) {
      const id = await system.submit({ model: "fake", params: { text_chars } });
      const view = await system.ended("fake", id);
      assert.equal(view.state, "completed");
      assert.ok(Buffer.byteLength(JSON.stringify(view.result)) <= 64 * 1024);
      assert.equal(view.result?.text?.length, fits ? text_chars : undefined);
      const status = await api.status(id);
      assert.equal(status["status"], "done");
      assert.deepEqual([status["result"], status["result_omitted"]], fits ? ["ж".repeat(text_chars), null] : [null, true]);
      assert.equal(typeof status["result_url"], "string");
    }
  });
});
