import assert from "node:assert/strict";
import { test } from "node:test";
import { endedWithin, within } from "./within.ts";

const never = new Promise<never>(() => undefined);
const late = (): Error => new Error("late");

test("work that ends in time gives its outcome, and no timer stays", async () => {
  assert.equal(await within(Promise.resolve(7), { ms: 1_000_000, late }), 7);
  await assert.rejects(within(Promise.reject(new Error("broken")), { ms: 1_000_000, late }), { message: "broken" });
  assert.deepEqual(
    process.getActiveResourcesInfo().filter((kind) => kind === "Timeout"),
    [],
  );
});

test("work that does not end in time is late, and an abort ends the wait with its reason", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const waiting = within(never, { ms: 100, late });
  t.mock.timers.tick(100);
  await assert.rejects(waiting, { message: "late" });
  const stop = new AbortController();
  const stopped = within(never, { ms: 100, late, signal: stop.signal });
  stop.abort(new Error("stopped"));
  await assert.rejects(stopped, { message: "stopped" });
  await assert.rejects(within(never, { ms: 100, late, signal: AbortSignal.abort(new Error("before")) }), { message: "before" });
});

test("whether work has ended in time is told without its error", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  assert.equal(await endedWithin(100, Promise.reject(new Error("broken"))), true);
  const waiting = endedWithin(100, never);
  t.mock.timers.tick(100);
  assert.equal(await waiting, false);
  assert.equal(await endedWithin(100, never, AbortSignal.abort()), false);
});

test("a rejection that comes after the time is over is nobody's unhandled one", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const work = Promise.withResolvers<never>();
  const waiting = within(work.promise, { ms: 100, late });
  t.mock.timers.tick(100);
  await assert.rejects(waiting, { message: "late" });
  work.reject(new Error("too late"));
  await new Promise((resolve) => setImmediate(resolve));
});
