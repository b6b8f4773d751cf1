import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { ECHO_MS } from "../../src/cli/process-signals.ts";
import { startCutProxy } from "../support/cut-proxy.ts";
import { childrenOf, gone, startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

/** Resolves to the exit code. */
async function signalled(worker: Pick<WorkerProcess, "process">, signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
  const exited = once(worker.process, "exit") as Promise<[number | null]>;
  worker.process.kill(signal);
  return (await exited)[0];
}

/** A job that is held in its first step. */
async function heldJob(system: TestSystem, gate: { readonly fault: Readonly<Record<string, string>> }): Promise<string> {
  const id = await system.submit({ model: "fake", params: { steps: 1, fault: gate.fault }, timeoutMs: 600_000 });
  await system.event((event) => event.id === id && event.stage === "denoise");
  return id;
}

test("SIGTERM while Redis is away ends the worker and its runners; the job comes back by its lock", async () => {
  await using system = await startSystem();
  const worker = await system.startWorker();
  using gate = system.gate();
  const id = await heldJob(system, gate);
  const children = await childrenOf(worker.pid);
  await system.killRedis();
  await worker.line(({ msg }) => msg.startsWith("Redis does not answer"));
  assert.equal(await signalled(worker), 0);
  for (const pid of children) await gone(pid);
  gate.open();
  await system.restartRedis();
  await system.startWorker();
  const view = await system.ended("fake", id);
  assert.equal(view.state, "completed", view.failedReason ?? "");
  assert.equal(view.attemptsMade, 1, "the success alone");
  await system.spoolEmpty();
});

test("SIGTERM while Redis hangs ends the worker, too", async () => {
  await using system = await startSystem();
  const worker = await system.startWorker();
  using gate = system.gate();
  await heldJob(system, gate);
  process.kill(system.redis.pid, "SIGSTOP");
  try {
    assert.equal(await signalled(worker), 0);
  } finally {
    process.kill(system.redis.pid, "SIGCONT");
  }
});

test("a second signal ends the worker at once, however long its grace; the job goes back without an attempt", async () => {
  await using system = await startSystem({ DRYAPI_SHUTDOWN_GRACE_MS: "1h" });
  const worker = await system.startWorker();
  using gate = system.gate();
  const id = await heldJob(system, gate);
  worker.process.kill("SIGTERM");
  await worker.line(({ msg }) => msg.startsWith("draining"));
  assert.equal(await system.state("fake", id), "active", "the grace goes on");
  // Sooner it would be taken for the first one's echo. Counted from after the first was heard, so that no slow machine makes it less.
  await wait(ECHO_MS + 1);
  assert.equal(await signalled(worker), 0);
  const view = await system.queues.job("fake", id);
  assert.deepEqual([view?.state, view?.attemptsMade], ["waiting", 0]);
});

test("cut off for longer than its lock: a host publishes nothing, and its finished work is used when it gets the job again", async () => {
  await using system = await startSystem({ DRYAPI_LOG_LEVEL: "debug" });
  await using proxy = await startCutProxy(system.redis.path);
  const worker = await system.startWorker({ REDIS_URL: `redis://${proxy.address}`, DRYAPI_LOCK_MS: "3s" });
  using gate = system.gate();
  const id = await heldJob(system, gate);
  proxy.cut();
  // Another worker's check finds the lock expired and puts the job back; nobody claims it.
  await system.until("the job to be put back", async () => {
    await system.queues.recoverStalled();
    return (await system.state("fake", id)) === "waiting" ? true : undefined;
  });
  gate.open();
  const isRun = ({ msg, job }: { readonly msg: string; readonly [field: string]: unknown }): boolean =>
    msg === "the runner reported the job done" && job === id;
  await worker.line(isRun);
  await system.until("the outputs in the store", async () => ((await system.objects(`outputs/${id}/1`)).length > 0 ? true : undefined));
  assert.equal(
    system.events.some((event) => event.id === id && event.type === "done"),
    false,
    "nothing is told of a job that is not this worker's any more",
  );
  proxy.mend();
  const view = await system.ended("fake", id);
  assert.equal(view.state, "completed", view.failedReason ?? "");
  assert.equal(view.result?.claim, 2);
  await system.event((event) => event.id === id && event.type === "done");
  assert.equal(system.events.filter((event) => event.id === id && event.type === "done").length, 1, "done is told once");
  assert.equal(worker.lines.filter(isRun).length, 1, "the device is not used again");
  await worker.line(({ msg, job }) => msg.startsWith("outputs of an earlier claim are in the spool") && job === id);
  await system.spoolEmpty();
  // The claim that ended takes the objects of the earlier one away after all else.
  await system.until("the earlier claim's objects to go", async () =>
    (await system.objects(`outputs/${id}`)).length === 1 ? true : undefined,
  );
});

test("SIGTERM before the worker is ready, while it takes up what it held and Redis hangs, ends it", async () => {
  await using system = await startSystem();
  const first = await system.startWorker();
  using gate = system.gate();
  const id = await heldJob(system, gate);
  await first.kill9();
  await using proxy = await startCutProxy(system.redis.path);
  proxy.cut();
  const second = system.spawnWorker({ REDIS_URL: `redis://${proxy.address}`, DRYAPI_LOG_LEVEL: "debug" });
  await second.line(({ msg }) => msg === "Redis connection");
  await signalled(second);
  gate.open();
  proxy.mend();
  await system.startWorker();
  assert.equal((await system.ended("fake", id)).state, "completed");
});
