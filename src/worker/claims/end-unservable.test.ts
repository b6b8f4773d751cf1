import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import type { Claim } from "../../queue/queue-types.ts";
import { endUnservable, type EndUnservableParts } from "./end-unservable.ts";

const WHY = new AppError("MODEL_CORRUPT", "the files are damaged");

interface Queue extends EndUnservableParts {
  readonly waiting: string[];
  readonly claimed: string[];
  readonly failed: string[];
  readonly handedBack: string[];
}

/** The first of `waiting` is claimed next. A claim that is handed back is only noted: the queue itself keeps the order. */
function queueOf(waiting: string[], awayAfter: number = Number.POSITIVE_INFINITY): Queue {
  const [claimed, failed, back]: [string[], string[], string[]] = [[], [], []];
  return {
    waiting,
    claimed,
    failed,
    handedBack: back,
    queues: {
      claim: async () => {
        if (claimed.length >= awayAfter) throw new AppError("REDIS_UNAVAILABLE", "away");
        const id = waiting.shift();
        if (id === undefined) return null;
        claimed.push(id);
        return { id, queue: "m", token: id, claim: 1, order: 1, data: {}, attemptsMade: 0, addedAt: 1, priority: 1, deferredFailure: null };
      },
    },
    carrier: {
      endWith: async ({ id }: Claim, reason) => {
        const { code } = await reason;
        if (code === WHY.code) failed.push(id);
        else assert.equal(code, "CAPACITY_UNAVAILABLE");
        if (code !== WHY.code) back.push(id);
      },
    },
  };
}

test("jobs that waited long enough end, younger ones go back", async () => {
  const queue = queueOf(["young-1", "old-1", "young-2", "old-2", "young-3"]);
  assert.equal(await endUnservable(queue, "m", { due: ["old-1", "old-2"], error: WHY }), 2);
  assert.deepEqual(queue.failed, ["old-1", "old-2"]);
  assert.deepEqual(queue.handedBack, ["young-1", "young-2"]);
  assert.deepEqual(queue.waiting, ["young-3"]);
});

test("without a job that is due nothing is claimed", async () => {
  const queue = queueOf(["young"]);
  assert.equal(await endUnservable(queue, "m", { due: [], error: WHY }), 0);
  assert.deepEqual(queue.claimed, []);
});

test("a due job that is gone is no harm", async () => {
  const queue = queueOf(["old"]);
  assert.equal(await endUnservable(queue, "m", { due: ["old", "gone"], error: WHY }), 1);
});

test("one call claims a bounded number of younger jobs, holds them while it looks, and gives all of them back", async () => {
  const ids = Array.from({ length: 500 }, (_, index) => `young-${index}`);
  const queue = queueOf([...ids, "old"]);
  assert.equal(await endUnservable(queue, "m", { due: ["old"], error: WHY }), 0);
  assert.equal(queue.claimed.length, 101);
  assert.deepEqual(queue.handedBack, queue.claimed);
});

test("younger jobs go back also when Redis goes away in the middle", async () => {
  const queue = queueOf(["young", "old"], 1);
  await assert.rejects(() => endUnservable(queue, "m", { due: ["old"], error: WHY }), { code: "REDIS_UNAVAILABLE" });
  assert.deepEqual(queue.handedBack, ["young"]);
});
