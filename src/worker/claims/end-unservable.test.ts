import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { endUnservable, type UnservableJobs } from "./end-unservable.ts";

const WHY = new AppError("MODEL_CORRUPT", "the files are damaged");

interface Queue extends UnservableJobs<{ readonly id: string }> {
  readonly waiting: string[];
  readonly failed: string[];
}

/** The first of `waiting` is claimed next; a hand-back goes to its old place. Those of `ended` need no reason to end. */
function queueOf(waiting: string[], due: readonly string[], ended: readonly string[] = []): Queue {
  const failed: string[] = [];
  const order = [...waiting];
  return {
    waiting,
    failed,
    due: async () => due,
    claim: async () => {
      const id = waiting.shift();
      return id === undefined ? null : { id };
    },
    end: async ({ id }, why) => {
      if (ended.includes(id)) return;
      const reason = await why;
      if (reason === WHY) failed.push(id);
      else {
        waiting.push(id);
        waiting.sort((a, b) => order.indexOf(a) - order.indexOf(b));
      }
    },
  };
}

test("jobs that waited long enough end, younger ones keep their places", async () => {
  const queue = queueOf(["young-1", "old-1", "young-2", "old-2", "young-3"], ["old-1", "old-2"]);
  assert.equal(await endUnservable(queue, WHY), 2);
  assert.deepEqual(queue.failed, ["old-1", "old-2"]);
  assert.deepEqual(queue.waiting, ["young-1", "young-2", "young-3"]);
});

test("without a job that is due nothing is claimed", async () => {
  const queue = queueOf(["young"], []);
  queue.claim = async () => assert.fail("nothing is to be claimed");
  assert.equal(await endUnservable(queue, WHY), 0);
});

test("a claim that ended by itself does not stop the others, and a due job that is gone is no harm", async () => {
  const queue = queueOf(["cancelled", "young", "old"], ["cancelled", "old", "gone"], ["cancelled"]);
  assert.equal(await endUnservable(queue, WHY), 2);
  assert.deepEqual([queue.failed, queue.waiting], [["old"], ["young"]]);
});

test("one call claims a bounded number of younger jobs, and gives all of them back in their order", async () => {
  const ids = Array.from({ length: 500 }, (_, index) => `young-${index}`);
  const queue = queueOf([...ids, "old"], ["old"]);
  let claims = 0;
  const { claim } = queue;
  queue.claim = async () => {
    claims += 1;
    return claim();
  };
  assert.equal(await endUnservable(queue, WHY), 0);
  assert.equal(claims, 101);
  assert.deepEqual(queue.waiting, [...ids, "old"]);
});

test("younger jobs go back also when Redis goes away in the middle", async () => {
  const queue = queueOf(["young", "old"], ["old"]);
  const { claim } = queue;
  queue.claim = async () => {
    if (queue.waiting.length === 1) throw new AppError("REDIS_UNAVAILABLE", "away");
    return claim();
  };
  await assert.rejects(() => endUnservable(queue, WHY), { code: "REDIS_UNAVAILABLE" });
  assert.deepEqual(queue.waiting, ["young", "old"]);
});
