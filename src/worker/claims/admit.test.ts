import assert from "node:assert/strict";
import { test } from "node:test";
import { openWorkerRig } from "../../../test/support/worker-rig.ts";
import { admit } from "./admit.ts";

const ID = "request-1";

test("a job that nothing speaks against runs", async () => {
  await using rig = await openWorkerRig();
  using job = (await rig.hold(ID)).job;
  assert.deepEqual(await admit(rig.context, job), { kind: "run" });
});

test("a job whose hosts were lost too often fails with what happened", async () => {
  await using rig = await openWorkerRig({ maxStalled: 1 });
  (await rig.hold(ID)).job.release();
  for (let stalls = 0; stalls < 2; stalls += 1) {
    rig.queues.stall(ID);
    if (stalls === 0) await rig.queues.take();
  }
  using job = rig.keeper.hold(await rig.queues.take());
  await assert.rejects(admit(rig.context, job), { code: "STALLED", message: /stalled more than allowable limit/ });
});

test("a cancelled job is not begun", async () => {
  await using rig = await openWorkerRig();
  rig.requests.cancelled.add(ID);
  using job = (await rig.hold(ID)).job;
  await assert.rejects(admit(rig.context, job), { code: "CANCELLED" });
});

test("marks that cannot be read keep nobody waiting: the job runs", async () => {
  await using rig = await openWorkerRig();
  rig.requests.isAway = true;
  rig.ledger.passedOnBy = () => Promise.reject(new Error("away"));
  using job = (await rig.hold(ID)).job;
  assert.deepEqual(await admit(rig.context, job), { kind: "run" });
});

test("a job that this worker passed on is for another one while one lives that did not", async () => {
  await using rig = await openWorkerRig();
  await rig.ledger.recordPassOn(ID, "me");
  using job = (await rig.hold(ID)).job;
  assert.deepEqual(await admit(rig.context, job), { kind: "run" }, "nobody else serves the model");
  rig.others.push("other");
  assert.deepEqual(await admit(rig.context, job), { kind: "not-here" });
  await rig.ledger.recordPassOn(ID, "other");
  assert.deepEqual(await admit(rig.context, job), { kind: "run" }, "the other one has passed it on as well");
});

test("whole outputs of an earlier claim are used instead of the device", async () => {
  await using rig = await openWorkerRig();
  await rig.leaveInSpool({ id: ID, token: `${ID}/1`, claim: 1 }, true);
  using job = (await rig.hold(ID)).job;
  const admission = await admit(rig.context, job);
  assert.equal(admission.kind, "outputs");
});

test("a cancel wins over whole outputs", async () => {
  await using rig = await openWorkerRig();
  await rig.leaveInSpool({ id: ID, token: `${ID}/1`, claim: 1 }, true);
  rig.requests.cancelled.add(ID);
  using job = (await rig.hold(ID)).job;
  await assert.rejects(admit(rig.context, job), { code: "CANCELLED" });
});
