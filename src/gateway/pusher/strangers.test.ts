import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Strangers } from "./strangers.ts";

test("one more of a network displaces the oldest of it, whatever others do", () => {
  const strangers = new Strangers<string>(2);
  assert.equal(strangers.add("a1", { network: "a", since: 1 }), null);
  assert.equal(strangers.add("b1", { network: "b", since: 2 }), null);
  assert.equal(strangers.add("a2", { network: "a", since: 3 }), null);
  assert.equal(strangers.add("a3", { network: "a", since: 4 }), "a1");
  strangers.delete("a2");
  assert.equal(strangers.add("a4", { network: "a", since: 5 }), null, "one that showed its key left its place");
  assert.equal(strangers.takeOldest(), "b1");
});

test("those that came too long ago are taken once, oldest first", () => {
  const strangers = new Strangers<string>(9);
  for (const [index, name] of ["a", "b", "c"].entries()) strangers.add(name, { network: "n", since: index });
  assert.deepEqual(strangers.takeUntil(-1), []);
  assert.deepEqual(strangers.takeUntil(1), ["a", "b"]);
  assert.deepEqual(strangers.takeUntil(1), []);
  assert.equal(strangers.takeOldest(), "c");
  assert.equal(strangers.takeOldest(), null);
});

test("no order of events lets a network have more than its share, or loses one", () => {
  const event = fc.record({ does: fc.constantFrom("add", "delete", "oldest"), network: fc.constantFrom("a", "b"), pick: fc.nat(30) });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), (events, max) => {
      const strangers = new Strangers<number>(max);
      const model: { readonly id: number; readonly network: string }[] = [];
      const drop = (id: number | null): void =>
        void (
          id !== null &&
          model.splice(
            model.findIndex((each) => each.id === id),
            1,
          )
        );
      for (const [id, { does, network, pick }] of events.entries()) {
        if (does === "add") {
          const ofNetwork = model.filter((each) => each.network === network);
          const displaced = strangers.add(id, { network, since: id });
          assert.equal(displaced, ofNetwork.length === max ? ofNetwork[0]?.id : null);
          drop(displaced);
          model.push({ id, network });
        } else if (does === "delete") {
          const gone = model[pick % Math.max(1, model.length)];
          if (gone === undefined) continue;
          strangers.delete(gone.id);
          drop(gone.id);
        } else {
          const oldest = strangers.takeOldest();
          assert.equal(oldest, model[0]?.id ?? null);
          drop(oldest);
        }
      }
      assert.deepEqual(
        strangers.takeUntil(Infinity),
        model.map(({ id }) => id),
      );
    }),
  );
});
