import assert from "node:assert/strict";
import { test } from "node:test";
import { nextTurn, openWorkerRig, until } from "../../../test/support/worker-rig.ts";
import { ClaimKeeper } from "./claim-keeper.ts";
import { handedBack } from "./held-job.ts";

const ID = "request-1";

test("a lock that expired while Redis was away is taken up again when nobody claimed the job", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  rig.queues.expireLock(ID);
  await rig.keeper.renew();
  assert.equal(job.abortReason, null);
  assert.equal(rig.queues.entry(ID).lock, job.claim.token);
  job.release();
});

test("a job that another worker has claimed is aborted as lost, and no other is", async () => {
  await using rig = await openWorkerRig();
  const lost = await rig.hold(ID);
  const kept = await rig.hold("request-2");
  rig.queues.stall(ID);
  await rig.queues.take();
  await rig.keeper.renew();
  assert.equal(lost.job.abortReason?.code, "LOCK_LOST");
  assert.equal(kept.job.abortReason, null);
  lost.job.release();
  kept.job.release();
});

test("a renewal that fails aborts nothing, and the next one finds what was lost", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  rig.queues.stall(ID);
  for (const verb of ["renew", "adopt"] as const) {
    rig.queues.cut("before", { verbs: [verb], times: 1 });
    await rig.keeper.renew();
    assert.equal(job.abortReason, null, `${verb} went unanswered`);
  }
  rig.requests.isAway = true;
  await rig.keeper.renew();
  rig.requests.isAway = false;
  await rig.keeper.renew();
  assert.equal(job.abortReason?.code, "LOCK_LOST");
  job.release();
});

test("a job that ends during the look at its lock is not lost", async (t) => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  rig.queues.stall(ID);
  const adopt = rig.queues.adopt.bind(rig.queues);
  t.mock.method(rig.queues, "adopt", async (ref: Parameters<typeof adopt>[0]) => {
    job.release();
    return adopt(ref);
  });
  await rig.keeper.renew();
  assert.equal(job.abortReason, null);
});

test("cancel marks are seen with each renewal, a nudge at once; the first reason stays", async () => {
  await using rig = await openWorkerRig();
  const marked = await rig.hold(ID);
  const nudged = await rig.hold("request-2");
  rig.requests.cancelled.add(ID);
  await rig.keeper.renew();
  rig.keeper.cancel("request-2");
  rig.keeper.close(handedBack("the worker shut down"));
  for (const { job } of [marked, nudged]) {
    assert.equal(job.abortReason?.code, "CANCELLED");
    job.release();
  }
});

test("both claims of one job hear its cancel, and letting go of the old one keeps the new", async () => {
  await using rig = await openWorkerRig();
  const old = await rig.hold(ID);
  rig.queues.stall(ID);
  const fresh = rig.keeper.hold(await rig.queues.take());
  old.job.release();
  old.job.release();
  assert.deepEqual(rig.keeper.jobs, [fresh]);
  assert.equal(rig.keeper.holds(ID), true);
  rig.keeper.cancel(ID);
  assert.equal(fresh.abortReason?.code, "CANCELLED");
  assert.equal(old.job.abortReason, null);
  fresh.release();
  assert.equal(rig.keeper.holds(ID), false);
});

test("a claim that comes after the close is aborted at once", async () => {
  await using rig = await openWorkerRig();
  rig.keeper.close(handedBack("the worker shut down"));
  const { job } = await rig.hold(ID);
  assert.equal(job.abortReason?.code, "CAPACITY_UNAVAILABLE");
  job.release();
});

test("without jobs Redis is asked nothing", async () => {
  await using rig = await openWorkerRig();
  await rig.keeper.renew();
  assert.deepEqual(rig.queues.asked, []);
});

test("locks are renewed three times within their life until the signal aborts", async () => {
  await using rig = await openWorkerRig({ env: { DRYAPI_LOCK_MS: "30s" } });
  const waits: number[] = [];
  const keeper = new ClaimKeeper(rig.context, {
    sleep: (ms, signal) => {
      waits.push(ms);
      return nextTurn(ms, signal);
    },
  });
  await rig.add(ID);
  const job = keeper.hold(await rig.queues.take());
  const over = new AbortController();
  const running = keeper.run(over.signal);
  await until("three renewals", () => rig.queues.asked.filter((verb) => verb === "renew").length === 3);
  over.abort();
  await running;
  assert.deepEqual([...new Set(waits)], [10_000]);
  job.release();
});
