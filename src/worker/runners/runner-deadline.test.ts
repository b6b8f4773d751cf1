import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { it } from "node:test";
import { Deadline } from "./runner-deadline.ts";

/** Timers that run out when the test says so. */
function manualTimers() {
  const open: { readonly run: () => void; readonly delayMs: number }[] = [];
  return {
    open,
    schedule: (run: () => void, delayMs: number) => {
      const timer = { run, delayMs };
      open.push(timer);
      return () => void (open.includes(timer) && open.splice(open.indexOf(timer), 1));
    },
  };
}

const turns = async (): Promise<void> => {
  await turn();
  await turn();
  await turn();
};

it("a deadline that nothing winds up again is missed, with its name and limit", async () => {
  const timers = manualTimers();
  const missed: string[] = [];
  new Deadline(timers.schedule, (what, limitMs) => missed.push(`${what} ${limitMs}`)).arm("decode", 50);
  assert.equal(timers.open[0]?.delayMs, 50);
  timers.open[0].run();
  assert.deepEqual(missed, []);
  await turns();
  assert.deepEqual(missed, ["decode 50"]);
});

it("a message that had arrived when the timer ran out still counts", async () => {
  const timers = manualTimers();
  const missed: string[] = [];
  const deadline = new Deadline(timers.schedule, (what) => missed.push(what));
  deadline.arm("one", 50);
  timers.open[0]?.run();
  deadline.arm("two", 50);
  await turns();
  assert.deepEqual(missed, []);
});

it("winding up again and clearing stop the timer before", () => {
  const timers = manualTimers();
  const deadline = new Deadline(timers.schedule, () => assert.fail("nothing was missed"));
  deadline.arm("one", 50);
  deadline.arm("two", 70);
  assert.deepEqual(
    timers.open.map(({ delayMs }) => delayMs),
    [70],
  );
  deadline.clear();
  assert.equal(timers.open.length, 0);
});
