import assert from "node:assert/strict";
import { test } from "node:test";
import type { SdNotify } from "./sd-notify.ts";
import { openServiceUnit } from "./service-unit.ts";

/** systemd's side: what it was told, in order. */
function fakeNotify(options: { readonly enabled?: boolean; readonly watchdogIntervalMs?: number | null } = {}): SdNotify & {
  take(): Promise<readonly string[]>;
} {
  const told: string[] = [];
  const tell = (what: string) => async (): Promise<void> => {
    // As slow as a program that is started: whatever overtakes would show.
    await Promise.resolve();
    told.push(what);
  };
  return {
    enabled: options.enabled ?? true,
    watchdogIntervalMs: options.watchdogIntervalMs ?? null,
    ready: (status) => tell(`ready ${status}`)(),
    status: (text) => tell(`status ${text}`)(),
    watchdog: () => tell("watchdog")(),
    stopping: (status, ms) => tell(`stopping ${status} +${ms}`)(),
    extend: (ms) => tell(`extend +${ms}`)(),
    take: async () => {
      // Messages wait for each other in promises alone: by the next turn of the event loop all are out.
      await new Promise((resolve) => setImmediate(resolve));
      return told.splice(0);
    },
  };
}

test("a start is extended until it is over, and no longer than the longest start", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const notify = fakeNotify();
  using unit = openServiceUnit(notify, { longestStartMs: 30_000 });
  unit.starting("looking for devices");
  assert.deepEqual(await notify.take(), ["extend +30000", "status looking for devices"]);
  t.mock.timers.tick(20_000);
  assert.deepEqual(await notify.take(), ["extend +30000", "extend +30000"]);
  t.mock.timers.tick(600_000);
  assert.deepEqual(await notify.take(), [], "a start that hangs is the unit's to end");
  await unit.ready("serving");
  t.mock.timers.tick(600_000);
  assert.deepEqual(await notify.take(), ["ready serving"]);
});

test("the watchdog is fed from ready to the end, and only while the program says that it lives", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const notify = fakeNotify({ watchdogIntervalMs: 15_000 });
  let alive = true;
  using unit = openServiceUnit(notify);
  await unit.ready("serving", () => alive);
  await notify.take();
  t.mock.timers.tick(30_000);
  assert.deepEqual(await notify.take(), ["watchdog", "watchdog"]);
  alive = false;
  t.mock.timers.tick(30_000);
  assert.deepEqual(await notify.take(), []);
  alive = true;
  await unit.stopping("draining");
  t.mock.timers.tick(30_000);
  assert.deepEqual(await notify.take(), ["stopping draining +30000", "extend +30000", "extend +30000", "extend +30000"]);
});

test("an end is extended for as long as it takes", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const notify = fakeNotify();
  const unit = openServiceUnit(notify, { longestStartMs: 0 });
  await unit.stopping("draining");
  await notify.take();
  t.mock.timers.tick(3_600_000);
  assert.equal((await notify.take()).length, 360);
  unit[Symbol.dispose]();
  t.mock.timers.tick(60_000);
  assert.deepEqual(await notify.take(), []);
});

test("a program that is signalled while it starts never becomes ready", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const notify = fakeNotify({ watchdogIntervalMs: 15_000 });
  using unit = openServiceUnit(notify);
  await unit.stopping("draining");
  unit.starting("still opening");
  await unit.ready("serving");
  assert.deepEqual(await notify.take(), ["extend +30000", "stopping draining +30000"]);
});

test("outside systemd nothing is told and nothing ticks", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const notify = fakeNotify({ enabled: false });
  using unit = openServiceUnit(notify);
  unit.starting("opening");
  await unit.stopping("draining");
  t.mock.timers.tick(60_000);
  assert.deepEqual(await notify.take(), []);
});
