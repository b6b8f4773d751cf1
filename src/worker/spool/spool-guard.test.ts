import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger } from "../../telemetry/logger.ts";
import { createMetrics } from "../../telemetry/metrics.ts";
import { SpoolGuard } from "./spool-guard.ts";
import type { SpoolUsage } from "./spool.ts";

const ROOM: SpoolUsage = { usedBytes: 1, freeBytes: 10, roomBytes: 9, fullReason: null };
const FULL: SpoolUsage = { usedBytes: 1, freeBytes: 0, roomBytes: 0, fullReason: "the disk of the spool is full" };

interface Rig extends Disposable {
  readonly guard: SpoolGuard;
  readonly told: boolean[];
  usage: SpoolUsage;
  now: number;
}

function open(): Rig {
  const metrics = createMetrics({ programs: ["worker"], version: "0", name: "me" });
  const told: boolean[] = [];
  const spool = { usage: async () => rig.usage };
  const guard = new SpoolGuard({
    context: { log: createLogger({ level: "silent" }), metrics, spool },
    onFull: (full) => told.push(full),
    now: () => rig.now,
  });
  const rig: Rig = { guard, told, usage: ROOM, now: 0, [Symbol.dispose]: () => metrics[Symbol.dispose]() };
  return rig;
}

test("claiming stops when the spool is full and goes on when it has room: each told once", async () => {
  using rig = open();
  await rig.guard.check();
  rig.usage = FULL;
  await rig.guard.check();
  await rig.guard.check();
  rig.usage = ROOM;
  await rig.guard.check();
  await rig.guard.check();
  assert.deepEqual(rig.told, [true, false]);
});

test("a job that met a full disk stops the claims at once, and statistics alone do not start them again for a while", async () => {
  using rig = open();
  rig.guard.metFull();
  rig.guard.metFull();
  assert.deepEqual(rig.told, [true]);
  rig.now = 9_999;
  await rig.guard.check();
  assert.deepEqual(rig.told, [true]);
  rig.now = 10_000;
  await rig.guard.check();
  assert.deepEqual(rig.told, [true, false]);
});

test("each job that meets the full disk prolongs the pause", async () => {
  using rig = open();
  rig.guard.metFull();
  rig.now = 8_000;
  rig.guard.metFull();
  rig.now = 12_000;
  await rig.guard.check();
  assert.deepEqual(rig.told, [true]);
});
