import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { suite, test } from "node:test";
import { openEnvironment } from "../../src/runner/ort/environment.ts";
import { openSession } from "../../src/runner/ort/ort-session.ts";
import { RunGuard, type GuardedRun } from "../../src/runner/ort/run-guard.ts";
import { failsWith, count, fixture, floats, RUNTIMES, withSession } from "../support/runtimes.ts";
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

    test("no load begins after the abort, and under no guard the graph opens", async () => {
      const backend = open();
      backend.guard(AbortSignal.abort());
      await assert.rejects(backend.open(fixture("loop")), failsWith("CANCELLED", /the load of .*loop\.onnx was not begun/));
      backend.guard(null);
      await withSession(backend, "loop", async (session) => assert.equal(session.inputs.length, 2));
    });
  });
}

/** Aborts as soon as something has begun under it. */
class AtOnce extends RunGuard {
  override begin(...given: Parameters<RunGuard["begin"]>): GuardedRun {
    const abort = new AbortController();
    this.watch(abort.signal);
    const run = super.begin(...given);
    abort.abort();
    return run;
  }
}

suite("runtime c: guards", () => {
  test("a load under way is ended, and the graph can be opened by others", async () => {
    const path = fixture("loop");
    const device = { kind: "cpu", index: 0, threads: 1 } as const;
    const env = await openEnvironment();
    await assert.rejects(openSession(env, path, { device }, new AtOnce()), failsWith("CANCELLED", /the load of .* was ended/));
    await withSession(RUNTIMES.c(), "loop", async (session) => assert.equal(session.inputs.length, 2));
  });

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
