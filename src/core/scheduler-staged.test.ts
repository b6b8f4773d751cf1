import assert from "node:assert/strict";
import { test } from "node:test";
import { GPU, Host, model, types } from "../../test/fixtures/scheduler-host.ts";

const BIG = model("big", 30, { stagedBytes: { cuda: 13 } });

test("a model that does not fit as a whole is loaded by turns, with a budget", () => {
  const host = new Host([GPU], [BIG]);
  assert.deepEqual(host.work("big", 1), [
    { type: "declare-intent", model: "big", device: "gpu" },
    { type: "start-runner", runner: "r1", model: "big", device: "gpu", budgetBytes: 13 },
  ]);
});

test("a model that fits as a whole has no budget, and gets a device where it does before one where it does not", () => {
  const large = { id: "large", kind: "cuda", memoryBytes: 80 } as const;
  const host = new Host([GPU, large], [BIG]);
  const [, start] = host.work("big", 1);
  assert.deepEqual(start, { type: "start-runner", runner: "r1", model: "big", device: "large", budgetBytes: null });
});

test("beside a pinned model that leaves too little it is loaded by turns; what it holds is counted so", () => {
  const host = new Host([GPU], [model("pin", 8, { pinned: true }), model("mid", 20, { stagedBytes: { cuda: 12 } }), model("small", 5)]);
  host.send({ type: "tick" });
  host.send({ type: "runner-ready", runner: "r1" });
  const start = host.work("mid", 1).find(({ type }) => type === "start-runner");
  assert.ok(start?.type === "start-runner" && start.budgetBytes === 12);
  host.send({ type: "runner-ready", runner: "r2" });
  host.send({ type: "claimed", runner: "r2", count: 1 });
  host.send({ type: "batch-done", runner: "r2", reusable: true });
  host.work("mid", 0);
  assert.deepEqual(types(host.work("small", 1)), ["declare-intent", "stop-runner"], "8 + 12 leave 4 of 24");
});

test("a peak by turns is another one than that of the whole model", () => {
  const host = new Host([GPU], [BIG]);
  host.work("big", 1);
  host.send({ type: "runner-ready", runner: "r1" });
  host.send({ type: "claimed", runner: "r1", count: 1 });
  host.send({ type: "batch-done", runner: "r1", reusable: true, memoryBytes: 15 });
  assert.deepEqual(host.state.peaks, { "big#staged@gpu": 15 });
});

test("a wrong peak of the whole model fades while it runs by turns, until it is loaded as a whole again", () => {
  const host = new Host([GPU], [model("mid", 20, { stagedBytes: { cuda: 12 } })]);
  host.state = { ...host.state, peaks: { "mid@gpu": 100 } };
  const budgets: (number | null)[] = [];
  for (let life = 0; life < 4; life += 1) {
    const start = host.work("mid", 1).find(({ type }) => type === "start-runner");
    assert.ok(start?.type === "start-runner");
    budgets.push(start.budgetBytes);
    host.send({ type: "runner-ready", runner: start.runner });
    host.send({ type: "claimed", runner: start.runner, count: 1 });
    host.send({ type: "batch-done", runner: start.runner, reusable: false });
    host.exited(start.runner, { crashed: false, freeBytes: 24 });
  }
  assert.deepEqual(budgets, [12, 12, 12, null]);
});
