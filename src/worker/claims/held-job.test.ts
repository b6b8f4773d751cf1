import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { createLogger } from "../../telemetry/logger.ts";
import { fakeJobData, FakeQueues } from "../../../test/support/fake-queues.ts";
import type { JobData } from "../../protocol/job.ts";
import { HeldJob } from "./held-job.ts";

async function hold(fields: Partial<JobData> = {}): Promise<{ readonly job: HeldJob; readonly released: HeldJob[] }> {
  const queues = new FakeQueues();
  await queues.add(fakeJobData("request-1", fields));
  const released: HeldJob[] = [];
  const claim = await queues.take(fields.model);
  return { job: new HeldJob(claim, { log: createLogger({ level: "silent" }), onRelease: (job) => released.push(job) }), released };
}

test("the time limit counts from the first start: what is left of it aborts the job", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { job } = await hold({ timeoutMs: 1_000 });
  job.startClock(400);
  t.mock.timers.tick(599);
  assert.equal(job.signal.aborted, false);
  t.mock.timers.tick(1);
  assert.equal(job.abortReason?.code, "JOB_TIMEOUT");
});

test("a clock that jumped back gives no more than the limit", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { job } = await hold({ timeoutMs: 1_000 });
  job.startClock(-5_000);
  t.mock.timers.tick(1_000);
  assert.equal(job.abortReason?.code, "JOB_TIMEOUT");
});

test("a stopped clock, and one that is started after the release, aborts nothing", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const stopped = await hold({ timeoutMs: 1_000 });
  stopped.job.startClock(0);
  stopped.job.stopClock();
  const late = await hold({ timeoutMs: 1_000 });
  late.job.release();
  late.job.startClock(0);
  t.mock.timers.tick(2_000);
  assert.equal(stopped.job.abortReason, null);
  assert.equal(late.job.abortReason, null);
});

test("a limit beyond what a timer takes does not fire at once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { job } = await hold({ timeoutMs: 2 ** 40 });
  job.startClock(0);
  t.mock.timers.tick(1_000);
  assert.equal(job.abortReason, null);
});

test("the first reason stays", async () => {
  const { job } = await hold();
  job.abort(new AppError("CANCELLED", "first"));
  job.abort(new AppError("LOCK_LOST", "second"));
  assert.equal(job.abortReason?.code, "CANCELLED");
});

test("disposing releases it", async () => {
  const { job, released } = await hold();
  {
    using held = job;
    assert.equal(held.id, "request-1");
  }
  assert.deepEqual(released, [job]);
});

test("damaged data are not trusted: the claim's own fields stand in, with the client's name", async () => {
  const { job } = await hold({ timeoutMs: -1, client: "client-7" });
  assert.equal(job.damage?.code, "JOB_DAMAGED");
  assert.deepEqual(
    [job.data.id, job.data.model, job.data.client, job.data.inputs.length],
    ["request-1", "fake", "client-7", 0],
    "no parameter and no input of it is used",
  );
});

test("a newer version is for another worker; data of another job are damage", async () => {
  assert.equal((await hold({ v: 99 })).job.damage?.code, "JOB_VERSION_UNSUPPORTED");
  const queues = new FakeQueues();
  await queues.add(fakeJobData("request-1"));
  const claim = { ...(await queues.take()), data: fakeJobData("request-2") };
  const job = new HeldJob(claim, { log: createLogger({ level: "silent" }), onRelease: () => undefined });
  assert.equal(job.damage?.code, "JOB_DAMAGED");
  assert.equal(job.data.id, "request-1");
});
