import assert from "node:assert/strict";
import { test } from "node:test";
import { GPU, Host, model, types } from "../../test/fixtures/scheduler-host.ts";

test("a job for a model that is not resident declares an intent, loads it, claims, and withdraws the intent with the claim", () => {
  const host = new Host([GPU], [model("flux", 20)]);
  assert.deepEqual(host.work("flux", 1), [
    { type: "declare-intent", model: "flux", device: "gpu" },
    { type: "start-runner", runner: "r1", model: "flux", device: "gpu", budgetBytes: null },
  ]);
  assert.deepEqual(host.send({ type: "runner-ready", runner: "r1" }), [{ type: "claim", runner: "r1", model: "flux", max: 1 }]);
  assert.deepEqual(host.send({ type: "claimed", runner: "r1", count: 1 }), [{ type: "withdraw-intent", model: "flux", device: "gpu" }]);
  assert.deepEqual(host.send({ type: "batch-done", runner: "r1", reusable: true }), []);
});

test("rule 1: a draining host stops idle runners at once, busy ones after their batch, and takes no work", () => {
  const host = new Host([GPU, { ...GPU, id: "gpu2" }], [model("a", 10), model("b", 10)]);
  const idle = host.resident("a");
  const [claim] = host.work("a", 1);
  assert.deepEqual(claim, { type: "claim", runner: idle, model: "a", max: 1 });
  host.send({ type: "claimed", runner: idle, count: 1 });
  const [, start] = host.work("b", 1);
  assert.ok(start?.type === "start-runner");
  assert.deepEqual(types(host.send({ type: "drain" })), ["stop-runner", "withdraw-intent"]);
  assert.deepEqual(host.work("b", 5), []);
  assert.deepEqual(host.send({ type: "batch-done", runner: idle, reusable: true }), [
    { type: "stop-runner", runner: idle, reason: "drain" },
  ]);
});

test("rule 1: a claim that was under way at the drain and found nothing stops its runner", () => {
  const host = new Host([GPU], [model("a", 10)]);
  const runner = host.resident("a");
  host.work("a", 1);
  assert.deepEqual(host.send({ type: "drain" }), []);
  assert.deepEqual(host.send({ type: "claimed", runner, count: 0 }), [{ type: "stop-runner", runner, reason: "drain" }]);
});

test("rule 1: paused for two reasons, claims go on only when both are gone", () => {
  const host = new Host([GPU], [model("a", 10)]);
  const runner = host.resident("a");
  host.send({ type: "pause-claims", reason: "spool-full" });
  host.send({ type: "pause-claims", reason: "redis" });
  assert.deepEqual(host.work("a", 1), []);
  assert.deepEqual(host.send({ type: "resume-claims", reason: "redis" }), []);
  assert.deepEqual(host.send({ type: "resume-claims", reason: "spool-full" }), [{ type: "claim", runner, model: "a", max: 1 }]);
});

test("rule 1: a quarantined device has its idle runners stopped and works again once it is proved", () => {
  const host = new Host([GPU], [model("a", 10)]);
  const runner = host.resident("a");
  assert.deepEqual(host.send({ type: "quarantine", device: "gpu" }), [{ type: "stop-runner", runner, reason: "evict" }]);
  host.exited(runner, { crashed: false, freeBytes: 24 });
  assert.deepEqual(host.work("a", 1), []);
  host.now += 60_000;
  assert.deepEqual(types(host.send({ type: "tick" })), []);
  assert.deepEqual(types(host.send({ type: "device-proved", device: "gpu" })), ["declare-intent", "start-runner"]);
});

test("rule 7: a runner that was busy when its device was quarantined is stopped after its batch", () => {
  const host = new Host([GPU], [model("a", 10)]);
  const runner = host.resident("a");
  host.work("a", 1);
  host.send({ type: "claimed", runner, count: 1 });
  assert.deepEqual(host.send({ type: "quarantine", device: "gpu" }), []);
  assert.deepEqual(host.send({ type: "batch-done", runner, reusable: true }), [{ type: "stop-runner", runner, reason: "evict" }]);
});

test("rule 1: a device that was never proved gets nothing, not even a pinned model", () => {
  const host = new Host([{ ...GPU, inService: false }], [{ ...model("a", 10), pinned: true }]);
  assert.deepEqual(host.work("a", 1), []);
  assert.deepEqual(types(host.send({ type: "device-proved", device: "gpu" })), ["declare-intent", "start-runner"]);
});

test("rule 3: a job older than the bound beats a resident model with far more work, and evicts it", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20)], { starvationMs: 30_000 });
  const runner = host.resident("a");
  host.send({ type: "pause-claims", reason: "test" });
  host.work("a", 500, { ageMs: 1_000 });
  host.work("b", 1, { ageMs: 30_000 });
  assert.deepEqual(host.send({ type: "resume-claims", reason: "test" }), [
    { type: "declare-intent", model: "b", device: "gpu" },
    { type: "stop-runner", runner, reason: "evict" },
  ]);
});

test("rule 3: of two starving models the one that waits longest since its last service comes first", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20), model("c", 20)], { starvationMs: 30_000 });
  host.send({ type: "pause-claims", reason: "test" });
  host.work("a", 9, { ageMs: 40_000 });
  host.work("b", 1, { ageMs: 50_000 });
  const [intent] = host.send({ type: "resume-claims", reason: "test" });
  assert.deepEqual(intent, { type: "declare-intent", model: "b", device: "gpu" });
});

test("rule 3: a starving model is not loaded twice for one job, and not while another host is loading it", () => {
  const host = new Host([GPU, { ...GPU, id: "gpu2" }], [model("a", 20)], { starvationMs: 30_000 });
  assert.deepEqual(host.work("a", 1, { ageMs: 60_000, intended: 1 }), []);
  assert.deepEqual(types(host.work("a", 1, { ageMs: 60_000 })), ["declare-intent", "start-runner"]);
});

test("rule 4: a resident model claims although another has more pressure", () => {
  const host = new Host([GPU], [model("a", 20), model("b", 20)]);
  const runner = host.resident("a");
  host.send({ type: "pause-claims", reason: "test" });
  host.work("a", 1);
  host.work("b", 50, { ageMs: 5_000 });
  assert.deepEqual(host.send({ type: "resume-claims", reason: "test" }), [{ type: "claim", runner, model: "a", max: 1 }]);
});

test("rule 4: among residents the highest pressure claims; age and priority count", () => {
  const models = [model("a", 8), model("b", 8)];
  const chosen = (a: Parameters<Host["work"]>[2], b: Parameters<Host["work"]>[2]): string => {
    const host = new Host([GPU], models);
    host.resident("a");
    host.resident("b");
    host.send({ type: "pause-claims", reason: "test" });
    host.work("a", 2, a);
    host.work("b", 2, b);
    const [claim] = host.send({ type: "resume-claims", reason: "test" });
    return claim?.type === "claim" ? claim.model : "none";
  };
  assert.equal(chosen({ ageMs: 1_000 }, { ageMs: 9_000 }), "b");
  assert.equal(chosen({ topPriority: 1 }, { topPriority: 100, ageMs: 9_000 }), "a");
});

test("rule 6: a pinned model is loaded before anybody asks, beside what is there and once", () => {
  const host = new Host([GPU], [model("a", 16), model("pin", 8, { pinned: true })]);
  assert.deepEqual(host.send({ type: "tick" }), [
    { type: "declare-intent", model: "pin", device: "gpu" },
    { type: "start-runner", runner: "r1", model: "pin", device: "gpu", budgetBytes: null },
  ]);
  assert.deepEqual(host.send({ type: "tick" }), []);
  assert.deepEqual(host.send({ type: "runner-ready", runner: "r1" }), []);
  assert.deepEqual(types(host.work("a", 1)), ["declare-intent", "start-runner"]);
});

test("rule 6: a pinned model waits for room, and after a failed load for its back-off", () => {
  const host = new Host([GPU], [model("a", 20), model("pin", 8, { pinned: true })]);
  host.work("a", 1);
  const [a] = host.state.runners;
  assert.equal(a?.model, "a", "waiting work comes first");
  host.send({ type: "runner-ready", runner: "r1" });
  host.send({ type: "claimed", runner: "r1", count: 1 });
  assert.deepEqual(host.send({ type: "batch-done", runner: "r1", reusable: true }), [], "it does not evict");
  host.send({ type: "models-changed", models: [model("pin", 8, { pinned: true })] });
  assert.deepEqual(types(host.exited("r1", { crashed: false, freeBytes: 24 })), ["declare-intent", "start-runner"]);
  assert.deepEqual(types(host.exited("r2", { crashed: true, freeBytes: 24 })).includes("start-runner"), false);
  host.now = host.wakeAt ?? host.now;
  assert.ok(types(host.send({ type: "tick" })).includes("start-runner"));
});

test("rule 7: an idle runner is stopped after idleUnloadMs unless it is pinned", () => {
  const host = new Host([GPU], [model("a", 8), model("pin", 8, { pinned: true })], { idleUnloadMs: 10_000 });
  host.resident("pin");
  const runner = host.resident("a");
  assert.equal(host.wakeAt, host.now + 10_000);
  host.now += 10_000;
  assert.deepEqual(host.send({ type: "tick" }), [{ type: "stop-runner", runner, reason: "idle" }]);
});

test("rule 7: the idle runner of a model that was withdrawn is stopped, a busy one after its batch", () => {
  const host = new Host([GPU], [model("a", 8), model("b", 8)]);
  const a = host.resident("a");
  const b = host.resident("b");
  host.work("b", 1);
  host.send({ type: "claimed", runner: b, count: 1 });
  assert.deepEqual(host.send({ type: "models-changed", models: [] }), [{ type: "stop-runner", runner: a, reason: "evict" }]);
  assert.deepEqual(host.send({ type: "batch-done", runner: b, reusable: true }), [{ type: "stop-runner", runner: b, reason: "evict" }]);
});

test("rule 8: a delayed job that falls due is claimed though no event told of it", () => {
  const host = new Host([GPU], [model("a", 8)]);
  const runner = host.resident("a");
  assert.deepEqual(host.work("a", 0, { nextDueAt: host.now + 5_000 }), []);
  assert.equal(host.wakeAt, host.now + 5_000);
  host.now += 5_000;
  assert.deepEqual(host.send({ type: "tick" }), [{ type: "claim", runner, model: "a", max: 1 }]);
  assert.deepEqual(host.send({ type: "claimed", runner, count: 0 }), [], "it is not asked for again and again");
});

test("rule 8: a tick that comes early asks for its wake-up again", () => {
  const host = new Host([GPU], [model("a", 20)], { idleUnloadMs: 250 });
  host.resident("a");
  host.wakeAt = null;
  host.now += 249;
  host.send({ type: "tick" });
  assert.equal(host.wakeAt, host.now + 1);
});

test("a claim that found nothing leaves the runner ready; a job seen since is claimed", () => {
  const host = new Host([GPU], [model("a", 8)]);
  const runner = host.resident("a");
  host.work("a", 1);
  assert.deepEqual(host.send({ type: "claimed", runner, count: 0 }), []);
  host.work("a", 1);
  host.work("a", 1);
  assert.deepEqual(host.send({ type: "claimed", runner, count: 0 }), [{ type: "claim", runner, model: "a", max: 1 }]);
});

test("a runner that may not be reused is stopped and its model loaded anew for what waits", () => {
  const host = new Host([GPU], [model("a", 20)]);
  const runner = host.resident("a");
  host.work("a", 2);
  host.send({ type: "claimed", runner, count: 1 });
  assert.deepEqual(types(host.send({ type: "batch-done", runner, reusable: false })), ["stop-runner", "declare-intent"]);
  assert.deepEqual(types(host.exited(runner, { crashed: false, freeBytes: 24 })), ["start-runner"]);
});

test("out of memory stops every idle runner of the device but the one that is to run again, pinned ones too", () => {
  const host = new Host([GPU], [model("a", 8), model("b", 8, { pinned: true }), model("c", 8)]);
  const [b, a, c] = [host.resident("b"), host.resident("a"), host.resident("c")];
  assert.deepEqual(host.send({ type: "evict-for", device: "gpu", except: a }), [
    { type: "stop-runner", runner: b, reason: "evict" },
    { type: "stop-runner", runner: c, reason: "evict" },
  ]);
  host.exited(b, { crashed: false, freeBytes: 16 });
  const again = host.exited(c, { crashed: false, freeBytes: 16 });
  assert.deepEqual(again, [], "the pinned one leaves the device to the job that runs again");
});

test("events of runners and devices that are not there change nothing", () => {
  const host = new Host([GPU], [model("a", 8)]);
  const before = host.state;
  for (const type of ["runner-ready", "runner-exited", "claimed", "batch-done"] as const) {
    assert.deepEqual(host.send({ type, runner: "r9", crashed: true, count: 1, reusable: true }), []);
  }
  assert.deepEqual(host.send({ type: "device-measured", device: "none", freeBytes: 1 }), []);
  assert.deepEqual(host.send({ type: "quarantine", device: "none" }), []);
  assert.deepEqual(host.state, before);
});
