import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { flush, offer, openGate, type RateGate } from "./rate-gate.ts";

test("the first item passes at once, a hasty one is held and due after the interval", () => {
  const first = offer(openGate<string>(4), "a", 1_000);
  assert.equal(first.item, "a");
  const second = offer(first.gate, "b", 1_100);
  assert.deepEqual([second.item, second.dueAt], [null, 1_250]);
  assert.equal(flush(second.gate, 1_249).item, null);
  const third = offer(second.gate, "c", 1_200);
  const due = flush(third.gate, 1_250);
  assert.deepEqual([due.item, due.dueAt], ["c", null]);
  assert.equal(flush(due.gate, 9_000).item, null);
});

test("no second holds more than its number of items, they come in order, and the last one comes out", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(400), { minLength: 1 }), fc.integer({ min: 1, max: 12 }), (pauses, perSecond) => {
      let gate: RateGate<number> = openGate(perSecond);
      let dueAt: number | null = null;
      let at = 0;
      const out: { item: number; at: number }[] = [];
      const take = (step: { gate: RateGate<number>; item: number | null; dueAt: number | null }, when: number): void => {
        gate = step.gate;
        dueAt = step.dueAt;
        if (step.item !== null) out.push({ item: step.item, at: when });
      };
      for (const [item, pauseMs] of pauses.entries()) {
        at += pauseMs;
        if (dueAt !== null && dueAt <= at) take(flush(gate, dueAt), dueAt);
        take(offer(gate, item, at), at);
      }
      if (dueAt !== null) take(flush(gate, dueAt), dueAt);
      assert.equal(out.at(-1)?.item, pauses.length - 1);
      for (const [i, { item, at: when }] of out.entries()) {
        assert.ok(item > (out[i - 1]?.item ?? -1));
        assert.ok(when - (out[i - perSecond]?.at ?? -1_000) >= 1_000, "the n-th item before it lies a second back");
      }
    }),
  );
});
