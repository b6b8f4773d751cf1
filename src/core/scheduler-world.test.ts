import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { setupArb } from "../../test/fixtures/scheduler-setup.ts";
import {
  CLAIM_MS,
  MAX_BATCH_MS,
  MAX_LOAD_MS,
  MAX_MEASURE_MS,
  MAX_STOP_MS,
  STARVATION_MS,
  World,
} from "../../test/fixtures/scheduler-world.ts";
import { heldBytes } from "./scheduler-memory.ts";

/** Property tests: the world itself asserts what must hold at every event; here is what must hold in the end. */

const FAR = 3_600_000;

test("two batches never share a device, memory is never exceeded and nothing runs while it must not", () => {
  fc.assert(
    fc.property(setupArb({ trouble: true, pinned: true }), (setup) => {
      const world = new World(setup);
      world.run(200_000);
      for (const device of world.state.devices) {
        const booked = world.state.runners.filter((r) => r.device === device.id).reduce((sum, r) => sum + heldBytes(world.state, r), 0);
        assert.ok(booked <= device.memoryBytes, "the books never exceed the device");
      }
      assert.deepEqual(
        new Set(world.state.runners.map(({ id }) => id)),
        new Set(world.processes.keys()),
        "the books list the living processes",
      );
    }),
    { numRuns: 60 },
  );
});

test("with crashes, pauses and quarantines every job is still served in the end", () => {
  fc.assert(
    fc.property(setupArb({ trouble: true, pinned: false }), (setup) => {
      const world = new World(setup);
      world.run(FAR);
      assert.equal(world.waiting, 0);
      assert.equal(world.served, setup.arrivals.length);
    }),
    { numRuns: 40 },
  );
});

test("no model with waiting jobs goes unserved beyond the starvation bound", () => {
  fc.assert(
    fc.property(setupArb({ trouble: false, pinned: false }), (setup) => {
      const world = new World(setup);
      world.run(FAR);
      const turnMs = MAX_STOP_MS + MAX_MEASURE_MS + MAX_LOAD_MS + MAX_BATCH_MS + 10 * CLAIM_MS;
      const boundMs = STARVATION_MS + setup.models.length * turnMs + MAX_BATCH_MS;
      assert.equal(world.served, setup.arrivals.length);
      assert.ok(world.worstGapMs <= boundMs, `a model went unserved for ${world.worstGapMs} ms, the bound is ${boundMs}`);
    }),
    { numRuns: 60 },
  );
});

test("the decisions are the same however far the submitters' clocks are off", () => {
  fc.assert(
    fc.property(setupArb({ trouble: true, pinned: true }), fc.integer({ min: -10_000_000, max: 10_000_000 }), (setup, skewMs) => {
      const [right, skewed] = [new World(setup), new World({ ...setup, skewMs })];
      for (const world of [right, skewed]) world.run(FAR);
      assert.deepEqual(skewed.effects, right.effects);
    }),
    { numRuns: 40 },
  );
});

test("a drained scheduler claims and starts nothing and ends with no runner", () => {
  fc.assert(
    fc.property(setupArb({ trouble: true, pinned: true }), fc.integer({ min: 0, max: 130_000 }), (setup, drainAt) => {
      const world = new World(setup);
      world.run(drainAt);
      world.send({ type: "drain", at: world.now });
      const { loads } = world;
      world.run(FAR);
      assert.equal(world.loads, loads);
      assert.equal(world.processes.size, 0);
      assert.deepEqual(world.state.runners, []);
    }),
    { numRuns: 40 },
  );
});

test("two models that overload one device share it in slices, not by a load per batch", () => {
  const world = new World({
    devices: [{ id: "d0", kind: "cpu", memoryBytes: 16 }],
    models: ["m0", "m1"].map((slug) => ({ slug, memoryBytes: { cpu: 10 }, batchMax: 1, pinned: false })),
    arrivals: Array.from({ length: 300 }, (_, i) => [0, i % 2] as const),
    seed: 1,
    crashPercent: 0,
    troublePercent: 0,
  });
  world.run(FAR);
  assert.equal(world.served, 300);
  // 300 batches of 1.5 s on average are 450 s, in slices of about 20 s less the load: some 26 loads, not 300.
  assert.ok(world.loads <= 30, `${world.loads} loads`);
});
