import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GPU, Host, model, types } from "../../test/fixtures/scheduler-host.ts";
import { setupArb, type Setup } from "../../test/fixtures/scheduler-setup.ts";
import {
  CLAIM_MS,
  MAX_BACKOFF_MS,
  MAX_BATCH_MS,
  MAX_LOAD_MS,
  MAX_MEASURE_MS,
  MAX_STOP_MS,
  MEASURE_EVERY_MS,
  STARVATION_MS,
  World,
} from "../../test/fixtures/scheduler-world.ts";

const FAR = 3_600_000;

/** All models fit beside the pinned one by their manifests, on every device. */
function liar(setup: Setup, pinned: boolean, liesUntilMs: number): Setup {
  const devices = setup.devices.map((device) => Object.assign({}, device, { reportsMemory: true }));
  const models = setup.models.map((each, index) => {
    const isPinned = pinned && index === 0;
    const cpu = Math.min(each.memoryBytes.cpu ?? 0, isPinned ? 4 : 12);
    const stagedBytes = each.stagedBytes === undefined ? {} : { cpu: Math.min(each.stagedBytes.cpu ?? 0, cpu) };
    return Object.assign({}, each, { pinned: isPinned, memoryBytes: { cpu }, stagedBytes });
  });
  return { ...setup, devices, models, liesUntilMs };
}

const liarArb = fc
  .tuple(setupArb({ trouble: false, pinned: false }), fc.boolean(), fc.integer({ min: 0, max: 200_000 }))
  .map(([setup, pinned, liesUntilMs]) => liar(setup, pinned, liesUntilMs));

test("after any wrong measurements every model that fits by its manifest is served within a bound once they are right again", () => {
  fc.assert(
    fc.property(liarArb, (setup) => {
      const world = new World(setup);
      world.run(FAR);
      const turnMs = MAX_STOP_MS + MAX_MEASURE_MS + MAX_LOAD_MS + MAX_BATCH_MS + 10 * CLAIM_MS;
      const boundMs = MEASURE_EVERY_MS + MAX_BACKOFF_MS + STARVATION_MS + setup.models.length * turnMs + MAX_BATCH_MS;
      assert.equal(world.served, setup.arrivals.length);
      assert.ok(world.worstGapMs <= boundMs, `a model went unserved for ${world.worstGapMs} ms, the bound is ${boundMs}`);
    }),
    { numRuns: 60 },
  );
});

test("a process is never reckoned to hold more than its device has: it is loaded again at once on the empty device", () => {
  const host = new Host([GPU], [model("a", 6)], { idleUnloadMs: 600_000 });
  host.work("a", 1);
  host.send({ type: "runner-ready", runner: "r1" });
  host.send({ type: "claimed", runner: "r1", count: 1 });
  host.send({ type: "batch-done", runner: "r1", reusable: true, memoryBytes: 25 });
  assert.equal(host.state.peaks["a@gpu"], 24);
  host.work("a", 0);
  host.now += 600_000;
  assert.deepEqual(types(host.send({ type: "tick" })), ["stop-runner"]);
  host.exited("r1", { crashed: false, freeBytes: 24 });
  assert.deepEqual(types(host.work("a", 1)), ["declare-intent", "start-runner"]);
});

test("a peak above what the device has free keeps its model out until it starves; then the manifest counts", () => {
  const host = new Host([GPU], [model("a", 6)], { starvationMs: 30_000 });
  const runner = host.resident("a");
  host.work("a", 1);
  host.send({ type: "claimed", runner, count: 1 });
  host.send({ type: "batch-done", runner, reusable: false, memoryBytes: 24 });
  host.exited(runner, { crashed: false, freeBytes: 22 });
  assert.deepEqual(host.work("a", 1), [], "2 are taken by others, 24 do not fit");
  host.now += 30_000;
  assert.deepEqual(types(host.send({ type: "tick" })), ["declare-intent", "start-runner"]);
  assert.deepEqual(host.state.peaks, {});
});

test("a load that measurements ruled out rightly fails, and is tried again less and less often", () => {
  const host = new Host([GPU], [model("a", 6)], { starvationMs: 30_000, loadBackoffMs: 1_000 });
  host.send({ type: "device-measured", device: "gpu", freeBytes: 2 });
  assert.deepEqual(host.work("a", 1, { ageMs: 60_000 }), [], "memory of others that is proven keeps it out at any age");
  const unknown = host.send({ type: "device-measured", device: "gpu", freeBytes: null });
  assert.deepEqual(types(unknown), ["declare-intent", "start-runner"], "nothing proves it any more");
  host.exited("r1", { crashed: true, freeBytes: 2 });
  assert.equal(host.state.backoffs["a@gpu"]?.failures, 1);
  host.now += 10_000;
  assert.deepEqual(host.send({ type: "tick" }), [], "it is proven again");
});

test("a process that ends after it was seen with less halves a peak; at the manifest's word the peak is gone", () => {
  const host = new Host([GPU], [model("a", 6)]);
  const life = (memoryBytes: number): void => {
    const start = host.work("a", 1).find((effect) => effect.type === "start-runner");
    assert.ok(start?.type === "start-runner");
    host.send({ type: "runner-ready", runner: start.runner });
    host.send({ type: "claimed", runner: start.runner, count: 1 });
    host.send({ type: "batch-done", runner: start.runner, reusable: false, memoryBytes });
    host.exited(start.runner, { crashed: false, freeBytes: 24 });
  };
  life(20);
  assert.equal(host.state.peaks["a@gpu"], 20);
  life(4);
  assert.equal(host.state.peaks["a@gpu"], 12);
  life(4);
  life(4);
  assert.deepEqual(host.state.peaks, {});
});

test("one wrong measurement of an empty device is corrected by the next", () => {
  const host = new Host([GPU], [model("a", 20)]);
  host.send({ type: "device-measured", device: "gpu", freeBytes: 0 });
  assert.deepEqual(host.work("a", 1), []);
  assert.deepEqual(types(host.send({ type: "device-measured", device: "gpu", freeBytes: 24 })), ["declare-intent", "start-runner"]);
});
