import assert from "node:assert/strict";
import { test } from "node:test";
import { HEALTHY, recordFault, recordProbeFailure, type DeviceHealth } from "./device-health.ts";

const policy = { faultedJobs: 3, quarantineMs: 1_000, quarantineMaxMs: 3_000 };

function faultAll(jobs: readonly (readonly [string, number])[], health: DeviceHealth = HEALTHY): ReturnType<typeof recordFault> {
  let verdict = { health, blamed: false, quarantineUntil: null as number | null };
  for (const [job, at] of jobs) verdict = recordFault(verdict.health, { job, at }, policy);
  return verdict;
}

test("a poison job that crashes again and again is not the device's fault", () => {
  const verdict = faultAll([1, 2, 3, 4, 5].map((at) => ["poison", at] as const));
  assert.equal(verdict.blamed, false);
  assert.equal(verdict.quarantineUntil, null);
});

test("different jobs that fault put the device into quarantine, however far apart", () => {
  const verdict = faultAll([
    ["a", 1],
    ["b", 2],
    ["c", 9_000_000],
  ]);
  assert.equal(verdict.blamed, true);
  assert.equal(verdict.quarantineUntil, 9_001_000);
});

test("after a quarantine one crash of any job is enough, for twice as long, up to a limit", () => {
  let verdict = faultAll([
    ["a", 1],
    ["b", 2],
    ["c", 3],
  ]);
  const lengths: (number | null)[] = [];
  for (const at of [10_000, 20_000, 30_000]) {
    verdict = recordFault(verdict.health, { job: "d", at }, policy);
    lengths.push(verdict.quarantineUntil === null ? null : verdict.quarantineUntil - at);
  }
  assert.deepEqual(lengths, [2_000, 3_000, 3_000]);
  assert.equal(faultAll([["e", 40_000]], HEALTHY).blamed, false, "a success ends the probation");
});

test("a failed probe is a quarantine at once", () => {
  assert.equal(recordProbeFailure(HEALTHY, 5, policy).quarantineUntil, 1_005);
});
