import assert from "node:assert/strict";
import { test } from "node:test";
import { openWorkerRig, type WorkerRig } from "../../../test/support/worker-rig.ts";
import type { HeldJob } from "../claims/held-job.ts";
import { handedBack } from "../claims/held-job.ts";
import type { Seat } from "../runners/batch-seat.ts";
import { Batch } from "../runners/batch.ts";
import { AppError } from "../../protocol/error.ts";

interface Waiter {
  readonly job: HeldJob;
  readonly next: Promise<Seat>;
}

async function wait(rig: WorkerRig, id: string): Promise<Waiter> {
  const { job } = await rig.hold(id);
  const next = rig.reruns.next(job, null);
  next.catch(() => undefined);
  return { job, next };
}

function batchOf(rig: WorkerRig, id = "r1"): Batch {
  return new Batch(rig.runner({ id }), { onStage: () => undefined });
}

test("each waiting job gets a batch of its own, the oldest first", async () => {
  await using rig = await openWorkerRig();
  const [first, second] = [await wait(rig, "request-1"), await wait(rig, "request-2")];
  assert.deepEqual(rig.reruns.of("fake"), [first.job, second.job]);
  for (const [{ job, next }, id] of [
    [first, "r1"],
    [second, "r2"],
  ] as const) {
    const batch = batchOf(rig, id);
    assert.equal(rig.reruns.offer(batch), true);
    assert.equal(batch.size, 1);
    using seat = await next;
    assert.equal(seat.runner.id, id);
    job.release();
  }
  assert.equal(rig.reruns.offer(batchOf(rig)), false);
});

test("an abort ends the wait with its reason and takes nobody else's place", async () => {
  await using rig = await openWorkerRig();
  const [first, second] = [await wait(rig, "request-1"), await wait(rig, "request-2")];
  first.job.abort(new AppError("CANCELLED", "no longer wanted"));
  await assert.rejects(first.next, { code: "CANCELLED" });
  assert.deepEqual(rig.reruns.of("fake"), [second.job]);
  rig.reruns.refuse("fake", handedBack("the test is over"));
  await assert.rejects(second.next, { code: "CAPACITY_UNAVAILABLE" });
  for (const { job } of [first, second]) job.release();
});

test("an abort just after the seat was given leaves the seat to the job, which finds out by itself", async () => {
  await using rig = await openWorkerRig();
  const { job, next } = await wait(rig, "request-1");
  const batch = batchOf(rig);
  rig.reruns.offer(batch);
  job.abort(new AppError("CANCELLED", "no longer wanted"));
  {
    using seat = await next;
    assert.equal(seat.runner.id, "r1");
  }
  assert.deepEqual(await batch.close(), { reusable: true }, "a seat that is left keeps no batch");
  job.release();
});

test("a failed load refuses all that wait for the model; what starts to wait afterwards is not lost", async () => {
  await using rig = await openWorkerRig();
  const waiters = [await wait(rig, "request-1"), await wait(rig, "request-2")];
  rig.reruns.refuse("fake", handedBack("its model could not be loaded again"));
  for (const { next } of waiters) await assert.rejects(next, { code: "CAPACITY_UNAVAILABLE" });
  const late = await wait(rig, "request-3");
  assert.equal(rig.pokes.length, 3, "the scheduler is asked to look for it as well");
  rig.reruns.offer(batchOf(rig));
  using seat = await late.next;
  assert.equal(seat.runner.id, "r1");
  for (const { job } of [...waiters, late]) job.release();
});

test("a model that cannot be run here any more keeps nobody waiting", async () => {
  await using rig = await openWorkerRig();
  const before = await wait(rig, "request-1");
  rig.reruns.review();
  assert.equal(rig.reruns.of("fake").length, 1, "it still can");
  rig.unservable.add("fake");
  rig.reruns.review();
  await assert.rejects(before.next, { code: "CAPACITY_UNAVAILABLE" });
  const after = await wait(rig, "request-2");
  await assert.rejects(after.next, { code: "CAPACITY_UNAVAILABLE" });
  for (const { job } of [before, after]) job.release();
});

test("closing refuses all that wait and all that come", async () => {
  await using rig = await openWorkerRig();
  const before = await wait(rig, "request-1");
  rig.reruns.close(handedBack("the worker shut down"));
  const after = await wait(rig, "request-2");
  for (const { job, next } of [before, after]) {
    await assert.rejects(next, { code: "CAPACITY_UNAVAILABLE" });
    job.release();
  }
});

test("a job that ran out of memory has the others evicted; one that did not has not", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold("request-1");
  const next = rig.reruns.next(job, rig.runner({ id: "r7" }));
  assert.deepEqual(rig.evictions, ["r7"]);
  const other = await wait(rig, "request-2");
  assert.deepEqual(rig.evictions, ["r7"]);
  rig.reruns.close(handedBack("the test is over"));
  await assert.rejects(next);
  for (const each of [job, other.job]) each.release();
});
