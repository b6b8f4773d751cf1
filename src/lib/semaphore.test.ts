import assert from "node:assert/strict";
import { test } from "node:test";
import { Semaphore } from "./semaphore.ts";

test("permits go out first come first served and never more than there are", async () => {
  const semaphore = new Semaphore(2);
  const order: string[] = [];
  const first = await semaphore.acquire();
  const second = await semaphore.acquire();
  const third = semaphore.acquire().then((permit) => (order.push("third"), permit));
  const fourth = semaphore.acquire().then((permit) => (order.push("fourth"), permit));
  second[Symbol.dispose]();
  const permit = await third;
  assert.deepEqual(order, ["third"]);
  first[Symbol.dispose]();
  permit[Symbol.dispose]();
  (await fourth)[Symbol.dispose]();
  assert.deepEqual(order, ["third", "fourth"]);
});

test("disposing a permit twice gives back one", async () => {
  const semaphore = new Semaphore(1);
  const permit = await semaphore.acquire();
  permit[Symbol.dispose]();
  permit[Symbol.dispose]();
  await semaphore.acquire();
  const controller = new AbortController();
  const waiting = semaphore.acquire(controller.signal);
  controller.abort(new Error("full"));
  await assert.rejects(waiting, /full/);
});

test("a waiter that gave up takes no permit", async () => {
  const semaphore = new Semaphore(1);
  const held = await semaphore.acquire();
  const controller = new AbortController();
  const gone = semaphore.acquire(controller.signal);
  const patient = semaphore.acquire();
  controller.abort(new Error("gone"));
  await assert.rejects(gone, /gone/);
  held[Symbol.dispose]();
  (await patient)[Symbol.dispose]();
});
