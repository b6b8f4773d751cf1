import assert from "node:assert/strict";
import { test } from "node:test";
import { HEALTHY, recordCrash, recordProbeFailure, type DeviceHealth } from "./device-health.ts";

const policy = { windowMs: 10_000, crashedJobs: 3, quarantineMs: 1_000, quarantineMaxMs: 3_000 };

function crashAll(jobs: readonly (readonly [string, number])[], health: DeviceHealth = HEALTHY): ReturnType<typeof recordCrash> {
  let verdict = { health, blamed: false, quarantineUntil: null as number | null };
  for (const [job, at] of jobs) verdict = recordCrash(verdict.health, { job, at }, policy);
  return verdict;
}

test("a poison job that crashes again and again is not the device's fault", () => {
  const verdict = crashAll([1, 2, 3, 4, 5].map((at) => ["poison", at] as const));
  assert.equal(verdict.blamed, false);
  assert.equal(verdict.quarantineUntil, null);
});

test("different jobs that crash within the window put the device into quarantine", () => {
  const verdict = crashAll([
    ["a", 1],
    ["b", 2],
    ["c", 3],
  ]);
  assert.equal(verdict.blamed, true);
  assert.equal(verdict.quarantineUntil, 1_003);
});

test("crashes that lie apart further than the window do not add up", () => {
  assert.equal(
    crashAll([
      ["a", 1],
      ["b", 2],
      ["c", 10_001],
    ]).blamed,
    false,
  );
});

test("after a quarantine one crash of any job is enough, for twice as long, up to a limit", () => {
  let verdict = crashAll([
    ["a", 1],
    ["b", 2],
    ["c", 3],
  ]);
  const lengths: (number | null)[] = [];
  for (const at of [10_000, 20_000, 30_000]) {
    verdict = recordCrash(verdict.health, { job: "d", at }, policy);
    lengths.push(verdict.quarantineUntil === null ? null : verdict.quarantineUntil - at);
  }
  assert.deepEqual(lengths, [2_000, 3_000, 3_000]);
  assert.equal(crashAll([["e", 40_000]], HEALTHY).blamed, false, "a success ends the probation");
});

test("a failed probe is a quarantine at once", () => {
  assert.equal(recordProbeFailure(HEALTHY, 5, policy).quarantineUntil, 1_005);
});
