import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobParams } from "../protocol/job.ts";
import type { Task } from "../protocol/task.ts";
import { compatibleWith } from "./batch.ts";

const manifest = { batch: { max: 3, by: ["width", "loras"] } };
const job = (id: number, params: JobParams, task: Task = "txt2img"): { id: number; task: Task; params: JobParams } => ({
  id,
  task,
  params,
});

test("jobs share a run when their task and the named parameters agree, whatever else differs", () => {
  assert.equal(compatibleWith(job(1, { width: 512, seed: 1 }), job(2, { width: 512, seed: 2 }), manifest), true);
  assert.equal(compatibleWith(job(1, { width: 512 }), job(2, { width: 768 }), manifest), false);
  assert.equal(compatibleWith(job(1, { width: 512 }), job(2, { width: 512 }, "img2img"), manifest), false);
});

test("values are compared as values and an absent parameter equals null", () => {
  const a = job(1, { width: 512, loras: [{ name: "x", weight: 1 }] });
  const b = job(2, { width: 512, loras: [{ weight: 1, name: "x" }] });
  assert.equal(compatibleWith(a, b, manifest), true);
  assert.equal(compatibleWith(job(1, { width: 512 }), job(2, { width: 512, loras: null }), manifest), true);
  assert.equal(compatibleWith(job(1, { width: 512 }), job(2, { width: 513 }), manifest), false);
  assert.equal(compatibleWith(a, b, { batch: { max: 1, by: [] } }), false);
});
