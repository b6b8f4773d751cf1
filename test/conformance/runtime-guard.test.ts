import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { suite, test } from "node:test";
import { failsWith, count, floats, RUNTIMES, withSession } from "../support/runtimes.ts";
import { FOREVER } from "../support/runtime-fuzz.ts";

for (const [runtime, open] of Object.entries(RUNTIMES)) {
  suite(`runtime ${runtime}: guards`, () => {
    test("no run begins after the abort, and the session runs again under no guard or another", async () => {
      const backend = open();
      await withSession(backend, "loop", async (session) => {
        const run = () => session.run({ times: count(3n), x: floats([0]) });
        backend.guard(AbortSignal.abort());
        await assert.rejects(run(), failsWith("CANCELLED"));
        const abort = new AbortController();
        backend.guard(abort.signal);
        assert.deepEqual((await run())["y"], floats([3]));
        abort.abort();
        await assert.rejects(run(), failsWith("CANCELLED"));
        backend.guard(null);
        assert.deepEqual((await run())["y"], floats([3]));
      });
    });
  });
}

suite("runtime c: guards", () => {
  const forever = { times: count(FOREVER), x: floats([0]) };

  test("a run is ended between two nodes, by the signal that it began under; other sessions go on", async () => {
    const backend = RUNTIMES.c();
    const others = RUNTIMES.c();
    await withSession(backend, "loop", (session) =>
      withSession(others, "loop", async (other) => {
        const abort = new AbortController();
        backend.guard(abort.signal);
        const run = session.run(forever);
        // runMs grows when a run ends only, so that the loop's end says that this thread was free meanwhile.
        const beside = await other.run({ times: count(1000n), x: floats([0]) });
        assert.deepEqual(beside["y"], floats([1000]));
        backend.guard(null);
        abort.abort();
        await assert.rejects(run, failsWith("CANCELLED"));
        assert.deepEqual((await session.run({ times: count(3n), x: floats([0]) }))["y"], floats([3]));
      }),
    );
  });

  test("a binding's run is ended too, and those that wait behind it do not begin", async () => {
    const backend = RUNTIMES.c();
    await withSession(backend, "loop", async (session) => {
      const abort = new AbortController();
      backend.guard(abort.signal);
      using binding = session.bind();
      for (const [name, feed] of Object.entries(forever)) binding.input(name, feed);
      binding.output("y", "device");
      const runs = [binding.run(), session.run(forever), session.run(forever)];
      await turn();
      abort.abort();
      for (const run of runs) await assert.rejects(run, failsWith("CANCELLED"));
      backend.guard(null);
      binding.input("times", count(2n));
      binding.output("y", "host");
      assert.deepEqual((await binding.run()).host["y"], floats([2]));
    });
  });
});
