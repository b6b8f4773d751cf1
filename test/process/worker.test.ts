import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseFailedReason } from "../../src/protocol/error.ts";
import { JOB_VERSION } from "../../src/protocol/job.ts";
import { paced, type Gate } from "../support/pace.ts";
import { childrenOf, gone, startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

/** One worker, one device: what happens to single jobs. */
describe("a worker", () => {
  let system: TestSystem;
  let worker: WorkerProcess;

  before(async () => {
    system = await startSystem();
    worker = await system.startWorker();
  });
  after(() => system[Symbol.asyncDispose]());

  async function failure(id: string, model = "fake"): Promise<ReturnType<typeof parseFailedReason>> {
    const view = await system.ended(model, id);
    assert.equal(view.state, "failed");
    return parseFailedReason(view.failedReason ?? "");
  }

  /** A job that is held in its second step until it is cancelled or the gate opens. */
  async function submitHeld(model: string, gate: Gate): Promise<string> {
    const id = await system.submit({ model, params: { steps: 3, fault: { ...gate.fault, step: 2 } } });
    await system.event((event) => event.id === id && event.step === 1);
    return id;
  }

  test("runs a job: result in the store, record in the queue, spool empty", async () => {
    const stepMs = paced(5);
    const id = await system.submit({ model: "fake", params: { steps: 3, step_ms: stepMs, seed: 7 } });
    const view = await system.ended("fake", id);
    assert.equal(view.state, "completed");
    const result = view.result;
    assert.ok(result !== null);
    assert.equal(result.claim, 1);
    assert.deepEqual(
      result.files.map((file) => file.key),
      [`outputs/${id}/1/image.png`],
    );
    assert.deepEqual(await system.objects(`outputs/${id}/1`), ["image.png"]);
    // Three waits of the runner's timers, which may round each down by a millisecond.
    assert.ok(result.timings.runMs >= 3 * (stepMs - 1), `runMs is ${result.timings.runMs}`);
    await system.event((event) => event.id === id && event.type === "done");
    const types = system.events.filter((event) => event.id === id).map((event) => event.type);
    assert.equal(types[0], "processing");
    assert.equal(types.at(-1), "done");
    assert.ok(types.includes("preview") && types.includes("progress"));
    const seqs = system.events.filter((event) => event.id === id).map((event) => event.seq);
    assert.deepEqual(
      seqs,
      seqs.toSorted((a, b) => a - b),
    );
    const record = await system.requests.get(id);
    assert.ok(record?.startedAt !== null);
  });

  test("keeps the runner for the next job", async () => {
    const [runner] = await childrenOf(worker.pid);
    await system.ended("fake", await system.submit({ model: "fake" }));
    assert.deepEqual(await childrenOf(worker.pid), [runner]);
  });

  test("retries a crash and then fails the job as poison, with the black box", async () => {
    const id = await system.submit({ model: "fake", params: { steps: 2, fault: { at: "denoise", step: 1, kind: "segfault" } } });
    const error = await failure(id);
    assert.equal(error.code, "POISON_JOB");
    assert.equal(error.blackBox?.signal, "SIGSEGV");
    assert.equal(error.blackBox?.model, "fake");
    assert.equal(error.blackBox?.stage, "denoise");
  });

  test("a job that crashes the runner once completes on its second claim", async () => {
    const params = { steps: 2, fault: { at: "denoise", step: 1, kind: "exit0" }, fault_claims: 1 };
    const view = await system.ended("fake", await system.submit({ model: "fake", params }));
    assert.equal(view.state, "completed");
    assert.equal(view.claim, 2);
    assert.equal(view.attemptsMade, 2, "the crash and the success");
  });

  test("out of memory, alone and after eviction, means that the job does not fit", async () => {
    const error = await failure(await system.submit({ model: "fake", params: { steps: 1, fault: { at: "denoise", kind: "oom" } } }));
    assert.equal(error.code, "DOES_NOT_FIT");
  });

  test("out of memory once is no end: the job reruns under the same claim", async () => {
    const params = { steps: 1, fault: { at: "denoise", kind: "oom" }, fault_claims: 1 };
    const view = await system.ended("fake", await system.submit({ model: "fake", params }));
    assert.equal(view.state, "completed");
    assert.equal(view.claim, 1);
  });

  test("a file that is not what the runner said is never published", async () => {
    const params = { steps: 1, fault: { at: "encode", kind: "wrong_sha" } };
    const id = await system.submit({ model: "fake", params });
    const error = await failure(id);
    assert.equal(error.code, "BAD_OUTPUT");
    assert.deepEqual(await system.objects(`outputs/${id}`), []);
  });

  test("an error of the input is final at once", async () => {
    const id = await system.submit({ model: "fake", params: { steps: 1, fault: { at: "text", kind: "invalid_input" } } });
    assert.equal((await failure(id)).code, "INVALID_INPUT");
    assert.equal((await system.ended("fake", id)).claim, 1);
  });

  test("the time limit ends a running job", async () => {
    using gate = system.gate();
    const id = await system.submit({ model: "fake", params: { steps: 1, fault: gate.fault }, timeoutMs: 300 });
    assert.equal((await failure(id)).code, "JOB_TIMEOUT");
  });

  test("cancel of a running job ends it between steps", async () => {
    using gate = system.gate();
    const id = await submitHeld("fake", gate);
    await system.cancel(id);
    assert.equal((await failure(id)).code, "CANCELLED");
  });

  test("a job that ignores its cancel is killed after the grace", async () => {
    const id = await system.submit({ model: "fake", params: { steps: 1, fault: { kind: "stall" } } });
    await system.event((event) => event.id === id && event.stage === "denoise");
    const [runner] = await childrenOf(worker.pid);
    await system.cancel(id);
    assert.equal((await failure(id)).code, "CANCELLED");
    await gone(runner ?? 0);
  });

  test("a cancelled queued job never starts", async () => {
    using gate = system.gate();
    const blocker = await submitHeld("fake", gate);
    const queued = await system.submit({ model: "fake", params: { steps: 1 } });
    await system.cancel(queued);
    await system.cancel(blocker);
    await system.ended("fake", blocker);
    const next = await system.submit({ model: "fake" });
    await system.ended("fake", next);
    assert.deepEqual(
      system.events.filter((event) => event.id === queued).map((event) => event.type),
      ["error"],
      "told that it was cancelled, and nothing else",
    );
    assert.equal(await system.state("fake", queued), "gone");
  });

  test("a batch member that crashes its runner takes nobody along", async () => {
    using gate = system.gate();
    const blocker = await submitHeld("fake-b", gate);
    const good = await Promise.all([0, 1].map(() => system.submit({ model: "fake-b", params: { steps: 2 } })));
    const bad = await system.submit({ model: "fake-b", params: { steps: 2, fault: { at: "denoise", step: 1, kind: "segfault" } } });
    await system.cancel(blocker);
    for (const id of good) {
      const view = await system.ended("fake-b", id);
      assert.equal(view.state, "completed");
      assert.equal(view.attemptsMade, 1, "the success alone");
    }
    assert.equal((await failure(bad, "fake-b")).code, "POISON_JOB");
  });

  test("data of a newer version and damaged data end their jobs, the daemon stays up", async () => {
    const newer = await system.addRaw("fake", { v: JOB_VERSION + 1, something: "else" });
    assert.equal((await failure(newer)).code, "JOB_VERSION_UNSUPPORTED");
    const damaged = await system.addRaw("fake", { v: JOB_VERSION, params: "none" });
    assert.equal((await failure(damaged)).code, "JOB_DAMAGED");
    await system.ended("fake", await system.submit({ model: "fake" }));
  });

  test("tells the truth over HTTP", async () => {
    const ready = await fetch(`${worker.admin}/readyz`);
    assert.equal(ready.status, 200, await ready.text());
    assert.equal((await fetch(`${worker.admin}/healthz`)).status, 200);
    const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
    assert.match(metrics, /dryapi_jobs_total\{model="fake",end="completed"\} [1-9]/);
    assert.match(metrics, /dryapi_runner_crashes_total\{model="fake",reason="crash"\} [1-9]/);
    assert.match(metrics, /dryapi_step_seconds_count\{model="fake"\} [1-9]/);
  });

  test("SIGTERM hands a running job back without spending an attempt, and exits 0", async () => {
    using gate = system.gate();
    const id = await submitHeld("fake", gate);
    const queued = await system.submit({ model: "fake", params: { steps: 1 } });
    const [runner] = await childrenOf(worker.pid);
    assert.equal(await worker.stop(), 0);
    await gone(runner ?? 0);
    const view = await system.queues.job("fake", id);
    assert.equal(view?.state, "waiting");
    assert.equal(view.attemptsMade, 0);
    const first = await system.queues.claim("fake");
    assert.equal(first?.id, id, "it stands at the front");
    assert.ok(first !== null);
    await system.queues.handBack(first);
    await system.cancel(id);
    worker = await system.startWorker();
    await worker.line((line) => line["job"] === queued && line.msg === "job completed");
    assert.equal((await system.ended("fake", queued)).state, "completed");
    await system.spoolEmpty();
  });
});
