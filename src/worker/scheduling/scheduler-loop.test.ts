import assert from "node:assert/strict";
import { test } from "node:test";
import { initialState, type Effect } from "../../core/scheduler-state.ts";
import { SchedulerLoop } from "./scheduler-loop.ts";

const HOUR = 3_600_000;

test("a wall clock that is set forward or back unloads nothing, starves nothing and leaves back-offs as they are", (t) => {
  const effects: Effect[] = [];
  const state = initialState({
    devices: [{ id: "d", kind: "cpu", memoryBytes: 10 }],
    models: ["a", "b"].map((slug) => ({ slug, memoryBytes: { cpu: 10 }, batchMax: 1, pinned: false })),
    policy: { idleUnloadMs: HOUR, starvationMs: HOUR, loadBackoffMs: HOUR },
  });
  const loop = new SchedulerLoop(state, (effect) => effects.push(effect));
  t.after(() => loop.close());
  const work = (model: string): void =>
    loop.tell({
      type: "work",
      queues: [{ model, waiting: 1, oldestAt: null, topPriority: 1, intended: 0, nextDueAt: null }],
    });
  work("a");
  loop.tell({ type: "runner-ready", runner: "r1" });
  loop.tell({ type: "claimed", runner: "r1", count: 1 });
  work("b");
  const { state: before } = loop;
  effects.length = 0;
  for (const jumpMs of [2 * HOUR, -2 * HOUR]) {
    t.mock.timers.enable({ apis: ["Date"], now: Date.now() + jumpMs });
    loop.tell({ type: "tick" });
    t.mock.timers.reset();
  }
  assert.deepEqual(effects, []);
  assert.deepEqual({ ...loop.state, wakeAt: null }, { ...before, wakeAt: null });
  loop.tell({ type: "batch-done", runner: "r1", reusable: true });
  assert.deepEqual(
    effects.map(({ type }) => type),
    ["declare-intent", "stop-runner"],
    "it goes on as if nothing had been",
  );
});
