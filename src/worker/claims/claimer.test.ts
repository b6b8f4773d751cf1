import assert from "node:assert/strict";
import { test } from "node:test";
import { fakeManifest } from "../../../test/fixtures/runner-rig.ts";
import { openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";
import { Batch } from "../runners/batch.ts";
import { handedBack } from "./held-job.ts";

const BY_WIDTH = fakeManifest({ batch: { max: 4, by: ["width"] } });

function batchOf(rig: WorkerRig): Batch {
  return new Batch(rig.runner({ manifest: BY_WIDTH }), { onStage: () => undefined });
}

/** Gives back what the test has claimed. */
async function giveBack(rig: WorkerRig): Promise<void> {
  rig.keeper.close(handedBack("the test is over"));
  await until("all is given back", () => rig.carrier.carrying === 0);
}

test("takes as many as may share the batch and no more", async () => {
  await using rig = await openWorkerRig();
  for (let n = 1; n <= 5; n += 1) await rig.add(`request-${n}`, { params: { width: 64 } });
  const batch = batchOf(rig);
  assert.equal(await rig.claimer.claimInto(batch, 4), 4);
  assert.equal(batch.size, 4);
  assert.deepEqual(rig.queues.waiting, ["request-5"]);
  await giveBack(rig);
});

test("a job of other parameters goes back to the front, untouched, and claiming stops there", async () => {
  await using rig = await openWorkerRig();
  await rig.add("request-1", { params: { width: 64 } });
  await rig.add("request-2", { params: { width: 128 } });
  await rig.add("request-3", { params: { width: 64 } });
  const batch = batchOf(rig);
  assert.equal(await rig.claimer.claimInto(batch, 4), 2);
  assert.equal(batch.size, 1);
  await until("the other one is back", () => rig.queues.waiting.length === 2);
  assert.deepEqual(rig.queues.waiting, ["request-2", "request-3"]);
  assert.equal(rig.queues.entry("request-2").attemptsMade, 0);
  await giveBack(rig);
});

test("a claim that ends without a seat makes room for the next job", async () => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2"]) await rig.add(id);
  rig.requests.cancelled.add("request-1");
  const batch = batchOf(rig);
  assert.equal(await rig.claimer.claimInto(batch, 1), 2);
  assert.deepEqual(
    rig.keeper.jobs.map(({ id }) => id),
    ["request-2"],
  );
  await giveBack(rig);
});

test("a Redis that fails before the first claim is the caller's to know; after it, the batch runs with what it has", async () => {
  await using rig = await openWorkerRig();
  rig.queues.cut("before", { verbs: ["claim"], times: 1 });
  await assert.rejects(rig.claimer.claimInto(batchOf(rig), 4), { code: "REDIS_UNAVAILABLE" });
  for (const id of ["request-1", "request-2"]) await rig.add(id);
  const claim = rig.queues.claim.bind(rig.queues);
  let claims = 0;
  rig.queues.claim = async (model) => {
    claims += 1;
    if (claims === 2) rig.queues.cut("before", { verbs: ["claim"], times: 1 });
    return claim(model);
  };
  const batch = batchOf(rig);
  assert.equal(await rig.claimer.claimInto(batch, 4), 1);
  assert.equal(batch.size, 1);
  await giveBack(rig);
});

test("a worker that shuts down claims nothing, and gives back a claim that was under way", async () => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2"]) await rig.add(id);
  const claim = rig.queues.claim.bind(rig.queues);
  rig.queues.claim = async (model) => {
    rig.isDraining = true;
    return claim(model);
  };
  const batch = batchOf(rig);
  assert.equal(await rig.claimer.claimInto(batch, 4), 1);
  assert.equal(batch.size, 0);
  await until("it is back", () => rig.carrier.carrying === 0);
  assert.deepEqual(rig.queues.did, ["handBack request-1#1"]);
  assert.equal(await rig.claimer.claimInto(batch, 4), 0);
});
