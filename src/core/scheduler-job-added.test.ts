import assert from "node:assert/strict";
import { test } from "node:test";
import { GPU, Host, model, types } from "../../test/fixtures/scheduler-host.ts";

test("an added job is claimed at once where its model is resident and idle", () => {
  const host = new Host([GPU], [model("a", 10)]);
  const runner = host.resident("a");
  host.work("a", 0);
  assert.deepEqual(host.send({ type: "job-added", model: "a" }), [{ type: "claim", runner, model: "a", max: 1 }]);
});

test("an added job that another worker has taken leaves the runner ready, and nothing waiting", () => {
  const host = new Host([GPU], [model("a", 10)]);
  const runner = host.resident("a");
  host.work("a", 0);
  host.send({ type: "job-added", model: "a" });
  assert.deepEqual(host.send({ type: "claimed", runner, count: 0 }), []);
  assert.deepEqual(host.work("a", 1), [{ type: "claim", runner, model: "a", max: 1 }]);
});

test("a job that is added during a batch is claimed right after it, and makes no other device load its model", () => {
  const host = new Host([GPU, { ...GPU, id: "gpu2" }], [model("a", 10)]);
  const runner = host.resident("a");
  host.work("a", 1);
  host.send({ type: "claimed", runner, count: 1 });
  assert.deepEqual(host.send({ type: "job-added", model: "a" }), []);
  assert.deepEqual(host.send({ type: "batch-done", runner, reusable: true }), [{ type: "claim", runner, model: "a", max: 1 }]);
});

test("an added job loads nothing: that waits for the look at the queue", () => {
  const host = new Host([GPU], [model("a", 10), model("b", 10)]);
  host.resident("a");
  host.work("b", 0);
  assert.deepEqual(host.send({ type: "job-added", model: "b" }), []);
  assert.deepEqual(types(host.work("b", 1)), ["declare-intent", "start-runner"]);
});

test("an added job does not interrupt: a device that is busy, paused claims and a drain are respected", () => {
  const host = new Host([GPU], [model("a", 10), model("b", 10)]);
  const [a, b] = [host.resident("a"), host.resident("b")];
  host.work("a", 0);
  host.work("b", 1);
  assert.deepEqual(host.send({ type: "job-added", model: "a" }), []);
  host.send({ type: "claimed", runner: b, count: 1 });
  assert.deepEqual(host.send({ type: "batch-done", runner: b, reusable: true }), [{ type: "claim", runner: a, model: "a", max: 1 }]);
  host.send({ type: "claimed", runner: a, count: 0 });
  host.send({ type: "pause-claims", reason: "redis" });
  assert.deepEqual(host.send({ type: "job-added", model: "a" }), []);
});
