import assert from "node:assert/strict";
import { it } from "node:test";
import { RunnerCancels } from "./runner-cancels.ts";

/** Graces that run, in the order in which they began. */
function rig() {
  const running: { readonly run: () => void }[] = [];
  const missed: string[] = [];
  const cancels = new RunnerCancels({
    graceMs: 3_000,
    schedule: (run, delayMs) => {
      assert.equal(delayMs, 3_000);
      const timer = { run };
      running.push(timer);
      return () => void running.splice(running.indexOf(timer), 1);
    },
    onMissed: (id) => missed.push(id),
  });
  return { cancels, running, missed };
}

it("the grace runs from the cancel of a job that is worked for alone, once", () => {
  const { cancels, running, missed } = rig();
  cancels.work(["a"]);
  cancels.begin("a");
  cancels.begin("a");
  cancels.work(["a"]);
  assert.equal(running.length, 1);
  running[0]?.run();
  assert.deepEqual(missed, ["a"]);
});

it("a step that others share goes on: the grace runs from the next one, if the job is still in it", () => {
  const { cancels, running } = rig();
  cancels.work(["a", "b"]);
  cancels.begin("a");
  assert.equal(running.length, 0);
  cancels.stepped();
  assert.equal(running.length, 1);
  cancels.work(["a", "b"]);
  assert.equal(running.length, 1);
  cancels.ended("a");
  assert.equal(running.length, 0);
});

it("it runs as well once all who share a step are cancelled or have ended", () => {
  for (const last of ["begin", "ended"] as const) {
    const { cancels, running } = rig();
    cancels.work(["a", "b"]);
    cancels.begin("a");
    cancels[last]("b");
    assert.equal(running.length, last === "begin" ? 2 : 1, last);
  }
});

it("a job that waits while others are worked for ignores nothing", () => {
  const { cancels, running } = rig();
  cancels.work(["a", "b", "c"]);
  cancels.work(["a"]);
  cancels.begin("b");
  cancels.work(["a"]);
  cancels.work(["c"]);
  assert.equal(running.length, 0);
  cancels.work(["b"]);
  assert.equal(running.length, 1);
  cancels.work(["c"]);
  assert.equal(running.length, 0);
});

it("nothing of a batch is left to the next one", () => {
  const { cancels, running } = rig();
  cancels.work(["a"]);
  cancels.begin("a");
  cancels.clear();
  assert.equal(running.length, 0);
  assert.equal(cancels.has("a"), false);
});
