import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { endUnservable, type UnservableJobs } from "./end-unservable.ts";

const WHY = new AppError("MODEL_CORRUPT", "the files are damaged");

interface Queue extends UnservableJobs<{ readonly id: string }> {
  readonly waiting: string[];
  readonly failed: string[];
}

/** The first of `waiting` is claimed next; a hand-back goes to the front. */
function queueOf(waiting: string[], due: readonly string[], dealtWith: readonly string[] = []): Queue {
  const failed: string[] = [];
  return {
    waiting,
    failed,
    due: async () => due,
    claim: async () => {
      const id = waiting.shift();
      return id === undefined ? null : dealtWith.includes(id) ? "dealt-with" : { id };
    },
    fail: async ({ id }, error) => {
      assert.equal(error, WHY);
      failed.push(id);
    },
    handBack: async ({ id }) => void waiting.unshift(id),
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
  const queue = queueOf(["cancelled", "old"], ["cancelled", "old", "gone"], ["cancelled"]);
  assert.equal(await endUnservable(queue, WHY), 1);
  assert.deepEqual(queue.failed, ["old"]);
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
  queue.fail = async () => {
    throw new AppError("REDIS_UNAVAILABLE", "away");
  };
  await assert.rejects(() => endUnservable(queue, WHY), { code: "REDIS_UNAVAILABLE" });
  assert.deepEqual(queue.waiting, ["young"]);
});
