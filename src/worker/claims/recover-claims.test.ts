import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";
import { recoverClaims } from "./recover-claims.ts";

/** A job that an earlier daemon claimed, with its folder; its outputs are whole or not. */
async function leaveClaim(rig: WorkerRig, id: string, isWhole: boolean): Promise<void> {
  await rig.add(id);
  await rig.leaveInSpool(await rig.queues.take(), isWhole);
}

function recover(rig: WorkerRig, signal: AbortSignal = new AbortController().signal): Promise<void> {
  return recoverClaims(rig.context, rig.carrier, signal);
}

test("whole outputs are stored, anything else goes back to its queue at once", async () => {
  await using rig = await openWorkerRig();
  await leaveClaim(rig, "request-1", true);
  await leaveClaim(rig, "request-2", false);
  await recover(rig);
  await until("both are settled", () => rig.carrier.carrying === 0);
  assert.deepEqual(rig.queues.did.toSorted(), ["complete request-1#1", "handBack request-2#1"]);
  assert.deepEqual(await rig.spooled(), []);
});

test("a claim whose lock expired is taken up again; one that another worker has claimed is left, and keeps whole outputs", async () => {
  await using rig = await openWorkerRig();
  await leaveClaim(rig, "request-1", true);
  rig.queues.expireLock("request-1");
  for (const [id, isWhole] of [
    ["request-2", true],
    ["request-3", false],
  ] as const) {
    await leaveClaim(rig, id, isWhole);
    rig.queues.stall(id);
    await rig.queues.take();
  }
  await recover(rig);
  await until("all are settled", () => rig.carrier.carrying === 0);
  assert.deepEqual(rig.queues.did, ["complete request-1#1"]);
  assert.deepEqual(await rig.spooled(), ["request-2/1*"]);
});

test("a claim that cannot be looked at costs the others nothing", async () => {
  await using rig = await openWorkerRig();
  await leaveClaim(rig, "request-1", false);
  await leaveClaim(rig, "request-2", false);
  rig.queues.cut("before", { verbs: ["adopt"], times: 1 });
  await recover(rig);
  await until("the other is settled", () => rig.carrier.carrying === 0);
  assert.deepEqual(rig.queues.did, ["handBack request-2#1"]);
  assert.deepEqual(await rig.spooled(), ["request-1/1"], "its folder stays for the next start");
});

test("ends early when the daemon ends: what is left expires by its lock, and the spool stays", async () => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2"]) await leaveClaim(rig, id, true);
  const ending = new AbortController();
  const adopt = rig.queues.adopt.bind(rig.queues);
  rig.queues.adopt = (ref) => {
    ending.abort();
    return adopt(ref);
  };
  await recover(rig, ending.signal);
  await until("the one that was taken up is settled", () => rig.carrier.carrying === 0);
  assert.deepEqual(await rig.spooled(), ["request-2/1*"]);
});

test("damaged outputs go back to the queue, not to the store", async () => {
  await using rig = await openWorkerRig();
  await leaveClaim(rig, "request-1", true);
  await writeFile(join(rig.spool.dir, "request-1", "1", "out", "image.png"), "torn");
  await recover(rig);
  await until("it is settled", () => rig.carrier.carrying === 0);
  assert.deepEqual(rig.queues.did, ["handBack request-1#1"]);
  assert.equal(rig.uploader.stored.size, 0);
});
