import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { seeHead, type SeenHead } from "./queue-age.ts";

test("a head counts from when it was first seen, whatever its submitter's clock says", () => {
  for (const addedAt of [1_000, 1_000 - 7_200_000, 1_000 + 7_200_000, null]) {
    const seen = seeHead(null, { id: "a", addedAt }, 1_000);
    assert.equal(seen?.since, 1_000);
    assert.equal(seeHead(seen, { id: "a", addedAt }, 9_000)?.since, 1_000);
  }
});

test("the next head waits as much longer or shorter as the submits lie apart", () => {
  const a = seeHead(null, { id: "a", addedAt: 500 }, 10_000);
  const b = seeHead(a, { id: "b", addedAt: 3_500 }, 60_000);
  assert.equal(b?.since, 13_000);
  assert.equal(seeHead(b, { id: "a", addedAt: 500 }, 61_000)?.since, 10_000, "the first came back behind a more urgent one");
});

test("an empty queue is forgotten", () => {
  const seen = seeHead(null, { id: "a", addedAt: 500 }, 10_000);
  assert.equal(seeHead(seen, null, 11_000), null);
  assert.equal(seeHead(null, { id: "b", addedAt: 400 }, 12_000)?.since, 12_000);
});

const peeksArb = fc.array(
  fc.record({
    afterMs: fc.integer({ min: 0, max: 60_000 }),
    id: fc.option(fc.integer({ min: 0, max: 5 })),
    addedAt: fc.integer({ min: 0, max: 600_000 }),
  }),
  { minLength: 1, maxLength: 30 },
);

test("no age is negative or longer than the queue was seen filled, and a skew of all submitters changes none", () => {
  fc.assert(
    fc.property(peeksArb, fc.integer({ min: -10_000_000, max: 10_000_000 }), (peeks, skewMs) => {
      let [at, plain, skewed, filledAt] = [1_000_000, null as SeenHead | null, null as SeenHead | null, 0];
      for (const { afterMs, id, addedAt } of peeks) {
        at += afterMs;
        const head = id === null ? null : { id: String(id), addedAt: addedAt + id };
        if (plain === null) filledAt = at;
        plain = seeHead(plain, head, at);
        skewed = seeHead(skewed, head === null ? null : { ...head, addedAt: head.addedAt + skewMs }, at);
        assert.equal(skewed?.since, plain?.since);
        if (plain !== null) assert.ok(plain.since <= at && plain.since >= filledAt);
      }
    }),
  );
});
