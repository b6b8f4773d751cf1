import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gate } from "../support/pace.ts";
import { childrenOf, gone, startSystem, type TestSystem } from "../support/system.ts";

/** A lock that expires within the test: a stall of the machine may cost claims as well, and none of them may end the job. */
const SHORT_LOCK = { DRYAPI_LOCK_MS: "3s", DRYAPI_MAX_STALLED: "100" };

/** A job that has made one step and is held in the next one until the gate opens. */
async function submitHeld(system: TestSystem, gate: Gate): Promise<string> {
  const id = await system.submit({ model: "fake", params: { steps: 3, fault: { ...gate.fault, step: 2 } } });
  await system.event((event) => event.id === id && event.step === 1);
  return id;
}

async function completesOnce(system: TestSystem, id: string, model = "fake"): Promise<void> {
  const view = await system.ended(model, id);
  assert.equal(view.state, "completed", view.failedReason ?? "");
  await system.event((event) => event.id === id && event.type === "done");
  assert.equal(system.events.filter((event) => event.id === id && event.type === "done").length, 1, "done is told once");
  const claim = view.result?.claim ?? 0;
  assert.deepEqual(await system.objects(`outputs/${id}/${claim}`), ["image.png"]);
}

for (const stage of ["text", "denoise", "decode", "encode"]) {
  test(`kill -9 of the runner in stage ${stage}: the job runs again and ends once`, async () => {
    await using system = await startSystem();
    const worker = await system.startWorker();
    // `stall` keeps the first try in that stage until it is killed.
    const id = await system.submit({ model: "fake", params: { steps: 3, fault: { at: stage, kind: "stall" }, fault_claims: 1 } });
    await system.event((event) => event.id === id && event.stage === stage);
    const [runner] = await childrenOf(worker.pid);
    assert.ok(runner !== undefined);
    process.kill(runner, "SIGKILL");
    await completesOnce(system, id);
    await system.spoolEmpty();
  });
}

test("kill -9 of the daemon while its runner is inside a native call: no orphan, the next daemon gives the job back at once", async () => {
  await using system = await startSystem();
  const first = await system.startWorker();
  const id = await system.submit({ model: "fake", params: { steps: 2, busy_ms: 600_000 } });
  await system.event((event) => event.id === id && event.stage === "denoise");
  const [runner] = await childrenOf(first.pid);
  assert.ok(runner !== undefined);
  await first.kill9();
  await gone(runner);
  const second = await system.startWorker();
  await second.line((line) => line["job"] === id && line.msg.includes("put back"));
  assert.equal((await system.queues.job("fake", id))?.attemptsMade, 0, "a lost host is no failed attempt");
  // The second daemon may have begun it again already: both kinds of cancel end it.
  await system.cancel(id);
  await system.until("the end of the job", async () => (/^(failed|gone)$/.test(await system.state("fake", id)) ? true : undefined));
  await system.spoolEmpty();
});

test("kill -9 of the daemon between steps: the job ends once, on a later claim", async () => {
  await using system = await startSystem();
  const first = await system.startWorker();
  using gate = system.gate();
  const id = await submitHeld(system, gate);
  await first.kill9();
  gate.open();
  await system.startWorker();
  await completesOnce(system, id);
  await system.spoolEmpty();
});

test("kill -9 of redis-server in the middle of a job: nothing is lost, the job ends once", async () => {
  await using system = await startSystem();
  const worker = await system.startWorker();
  using gate = system.gate();
  const running = await submitHeld(system, gate);
  const queued = await Promise.all([1, 2, 3].map(() => system.submit({ model: "fake", params: { steps: 1 } })));
  await system.restartRedis();
  gate.open();
  for (const id of [running, ...queued]) {
    const view = await system.ended("fake", id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
  }
  assert.equal(worker.process.exitCode, null, "the daemon lives on");
  assert.equal((await fetch(`${worker.admin}/readyz`)).status, 200);
});

test("a daemon that stood still past its lock changes nothing more: the other one's result counts", async () => {
  await using system = await startSystem();
  const slow = await system.startWorker({
    ...SHORT_LOCK,
    DRYAPI_WORKER_NAME: "slow",
    DRYAPI_SPOOL_DIR: `${system.dir}/spool-slow`,
    DRYAPI_STATE_DIR: `${system.dir}/state-slow`,
  });
  using gate = system.gate();
  const id = await submitHeld(system, gate);
  process.kill(slow.pid, "SIGSTOP");
  gate.open();
  const quick = await system.startWorker({ ...SHORT_LOCK, DRYAPI_WORKER_NAME: "quick" });
  const view = await system.ended("fake", id);
  assert.equal(view.result?.worker, "quick");
  const told = await system.event((event) => event.id === id && event.type === "done");
  process.kill(slow.pid, "SIGCONT");
  await slow.line((line) => line["job"] === id && line.msg.startsWith("claim given up"));
  assert.equal(
    system.events.some((event) => event.id === id && event.seq > told.seq),
    false,
    "nothing is published after the end",
  );
  assert.deepEqual((await system.ended("fake", id)).result, view.result);
  assert.equal(await slow.stop(), 0);
  assert.equal(await quick.stop(), 0);
});

test("five hundred jobs: none lost, none doubled", async () => {
  await using system = await startSystem();
  await system.startWorker();
  const ids = await Promise.all(Array.from({ length: 500 }, (_, i) => system.submit({ model: "fake", params: { steps: 1, seed: i } })));
  for (const id of ids) {
    const view = await system.ended("fake", id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    assert.equal(view.claim, 1, "claimed once");
  }
  await system.event((event) => event.id === ids.at(-1) && event.type === "done");
  const done = system.events.filter((event) => event.type === "done").map((event) => event.id);
  assert.equal(new Set(done).size, 500);
  assert.equal(done.length, 500);
});

test("a full spool stops the claims and readiness says so; jobs wait", async () => {
  await using system = await startSystem({ DRYAPI_SPOOL_MIN_FREE_BYTES: "512TiB" });
  const worker = await system.startWorker();
  await worker.line((line) => line.msg.startsWith("no more jobs are claimed"));
  const id = await system.submit({ model: "fake" });
  const ready = await fetch(`${worker.admin}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /spool/);
  assert.equal(await system.state("fake", id), "waiting");
});
