import assert from "node:assert/strict";
import { test } from "node:test";
import { jobTimeLeftMs, stageDeadlineMs } from "./deadline.ts";

const manifest = { deadlines: { loadMs: 600, defaultMs: 100, stageMs: { denoise: 50, "load:vae": 70 } } };

test("the runner's wish beats the stage's own deadline, which beats the load time and the default", () => {
  assert.equal(stageDeadlineMs(manifest, "denoise", 9), 9);
  assert.equal(stageDeadlineMs(manifest, "denoise"), 50);
  assert.equal(stageDeadlineMs(manifest, "load:vae"), 70);
  assert.equal(stageDeadlineMs(manifest, "load:transformer"), 600);
  assert.equal(stageDeadlineMs(manifest, "load"), 600);
  assert.equal(stageDeadlineMs(manifest, "loading-dock"), 100);
});

test("a job's time runs from its first dispatch and never below zero, nor above its limit when clocks differ", () => {
  assert.equal(jobTimeLeftMs({ timeoutMs: 1_000, startedAt: null }, 50_000), 1_000);
  assert.equal(jobTimeLeftMs({ timeoutMs: 1_000, startedAt: 50_000 }, 50_400), 600);
  assert.equal(jobTimeLeftMs({ timeoutMs: 1_000, startedAt: 50_000 }, 52_000), 0);
  assert.equal(jobTimeLeftMs({ timeoutMs: 1_000, startedAt: 50_000 }, 49_000), 1_000);
});
