import assert from "node:assert/strict";
import { test } from "node:test";
import { GPU, Host, model, types } from "../../test/fixtures/scheduler-host.ts";
import type { DeviceInit } from "./scheduler-state.ts";

test("rule 2: a load in place of another model waits for its exit and for the measurement of the freed memory", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20)]);
  const runner = host.resident("a");
  assert.deepEqual(host.work("b", 1), [
    { type: "declare-intent", model: "b", device: "gpu" },
    { type: "stop-runner", runner, reason: "evict" },
  ]);
  assert.deepEqual(host.work("a", 1), [], "the device is reserved");
  assert.deepEqual(host.send({ type: "runner-exited", runner, crashed: false }), [{ type: "measure-device", device: "gpu" }]);
  assert.deepEqual(host.send({ type: "device-measured", device: "gpu", freeBytes: 24 }), [
    { type: "start-runner", runner: "r2", model: "b", device: "gpu", budgetBytes: null },
  ]);
});

test("rule 2: a measurement that was under way before the exit is asked for again", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20)]);
  const runner = host.resident("a");
  host.work("b", 1);
  host.send({ type: "runner-exited", runner, crashed: false });
  assert.deepEqual(host.send({ type: "device-measured", at: host.now - 10, device: "gpu", freeBytes: 4 }), [
    { type: "measure-device", device: "gpu" },
  ]);
  assert.deepEqual(types(host.send({ type: "device-measured", device: "gpu", freeBytes: null })), ["start-runner"]);
});

test("rule 2: memory that did not come back ends the load with a back-off, and the next measurement after it lets it through", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20)], { loadBackoffMs: 1_000 });
  const runner = host.resident("a");
  host.work("b", 1);
  host.send({ type: "runner-exited", runner, crashed: false });
  assert.deepEqual(host.send({ type: "device-measured", device: "gpu", freeBytes: 10 }), [
    { type: "withdraw-intent", model: "b", device: "gpu" },
  ]);
  assert.deepEqual(host.send({ type: "device-measured", device: "gpu", freeBytes: 24 }), [], "still backing off");
  host.now += 1_000;
  assert.deepEqual(types(host.send({ type: "tick" })), ["declare-intent", "start-runner"]);
});

test("rule 2: a reserved load is given up when its jobs are gone", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20)]);
  const runner = host.resident("a");
  host.work("b", 1);
  assert.deepEqual(host.work("b", 0), [{ type: "withdraw-intent", model: "b", device: "gpu" }]);
  host.work("a", 1);
  assert.deepEqual(types(host.exited(runner, { crashed: false, freeBytes: 24 })), ["start-runner"]);
});

test("rule 5: the model with the highest pressure that fits is loaded, on the smallest device that costs no eviction", () => {
  const small: DeviceInit = { id: "small", kind: "cuda", memoryBytes: 12 };
  const host = new Host([GPU, small], [model("a", 10), model("huge", 99)]);
  host.work("huge", 50, { ageMs: 1_000 });
  assert.deepEqual(host.work("a", 1), [
    { type: "declare-intent", model: "a", device: "small" },
    { type: "start-runner", runner: "r1", model: "a", device: "small", budgetBytes: null },
  ]);
});

test("rule 5: the least recently used idle runners go, no more than needed, never a pinned one", () => {
  const host = new Host([GPU], [model("pin", 4, { pinned: true }), model("a", 4), model("b", 8), model("c", 14), model("d", 20)]);
  host.resident("pin");
  host.now += 1;
  host.resident("a");
  host.now += 1;
  const b = host.resident("b");
  host.now += 1;
  const effects = host.work("c", 1);
  assert.deepEqual(types(effects), ["declare-intent", "stop-runner"]);
  assert.deepEqual(effects[1], { type: "stop-runner", runner: b, reason: "evict" }, "stopping a alone is not enough, so b alone goes");
  const full = new Host([GPU], [model("pin", 8, { pinned: true }), model("d", 20)]);
  full.resident("pin");
  assert.deepEqual(full.work("d", 1), []);
});

test("rule 5: no second load while the resident, starting and elsewhere intended slots suffice", () => {
  const host = new Host([GPU, { ...GPU, id: "gpu2" }], [model("a", 20, { batchMax: 2 })]);
  assert.deepEqual(host.work("a", 2, { intended: 1 }), []);
  assert.deepEqual(types(host.work("a", 2)), ["declare-intent", "start-runner"]);
  assert.deepEqual(types(host.work("a", 3)), ["declare-intent", "start-runner"]);
  assert.deepEqual(host.work("a", 9), []);
});

test("rule 5: failed loads back off for longer each time, and a good one forgets them", () => {
  const host = new Host([GPU], [model("a", 20)], { loadBackoffMs: 1_000, loadBackoffMaxMs: 3_000 });
  host.work("a", 1);
  for (const [runner, delayMs] of [
    ["r1", 1_000],
    ["r2", 2_000],
    ["r3", 3_000],
  ] as const) {
    assert.deepEqual(host.exited(runner, { crashed: true, freeBytes: 24 }), [{ type: "withdraw-intent", model: "a", device: "gpu" }]);
    assert.equal(host.wakeAt, host.now + delayMs);
    host.now += delayMs;
    assert.deepEqual(types(host.send({ type: "tick" })), ["declare-intent", "start-runner"]);
  }
  host.send({ type: "runner-ready", runner: "r4" });
  assert.deepEqual(host.state.backoffs, {});
});

test("rule 5: a refused intent gives the load up without withdrawing it", () => {
  const host = new Host([GPU], [model("a", 20)], { loadBackoffMs: 1_000 });
  host.work("a", 1);
  assert.deepEqual(host.send({ type: "intent-refused", model: "a", device: "gpu" }), [
    { type: "stop-runner", runner: "r1", reason: "evict" },
  ]);
  assert.deepEqual(host.exited("r1", { crashed: false, freeBytes: 24 }), []);
});

test("what a process is seen with raises what its model is reckoned to need", () => {
  const host = new Host([GPU], [model("a", 12), model("b", 8)]);
  host.resident("a");
  assert.deepEqual(types(host.work("b", 1)), ["declare-intent", "start-runner"], "12 + 8 fit into 24");
  host.send({ type: "runner-ready", runner: "r2", memoryBytes: 10 });
  assert.equal(host.state.peaks["b@gpu"], 10);
});

test("memory of others is reckoned with as far as measurements show it", () => {
  const host = new Host([GPU], [model("a", 12), model("b", 8)]);
  host.resident("a");
  host.send({ type: "device-measured", device: "gpu", freeBytes: 5 });
  assert.equal(host.state.devices[0]?.foreignBytes, 7);
  assert.deepEqual(types(host.work("b", 1)), ["declare-intent", "stop-runner"], "24 - 7 - 12 is less than 8");
});

test("a model that no device could hold, or that states no need for its kinds, is never loaded", () => {
  const host = new Host([GPU], [model("large", 25), { ...model("cpu", 1), memoryBytes: { cpu: 1 } }], { starvationMs: 1_000 });
  assert.deepEqual(host.work("large", 1, { ageMs: 60_000 }), []);
  assert.deepEqual(host.work("cpu", 1, { ageMs: 60_000 }), []);
});
