import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { JobParams } from "../protocol/job.ts";
import type { Task } from "../protocol/task.ts";
import { compatibleWith, planBatch } from "./batch.ts";

const manifest = { batch: { max: 3, by: ["width", "loras"] } };
const job = (id: number, params: JobParams, task: Task = "txt2img"): { id: number; task: Task; params: JobParams } => ({
  id,
  task,
  params,
});

test("jobs that agree on the named parameters share a run, up to its size, others run apart", () => {
  const jobs = [
    job(1, { width: 512, seed: 1 }),
    job(2, { width: 768 }),
    job(3, { width: 512, seed: 2 }),
    job(4, { width: 512 }, "img2img"),
    job(5, { width: 512 }),
    job(6, { width: 512 }),
  ];
  const ids = planBatch(jobs, manifest).map((group) => group.map(({ id }) => id));
  assert.deepEqual(ids, [[1, 3, 5], [2], [4], [6]]);
});

test("values are compared as values and an absent parameter equals null", () => {
  const a = job(1, { width: 512, loras: [{ name: "x", weight: 1 }] });
  const b = job(2, { width: 512, loras: [{ weight: 1, name: "x" }] });
  assert.equal(compatibleWith(a, b, manifest), true);
  assert.equal(compatibleWith(job(1, { width: 512 }), job(2, { width: 512, loras: null }), manifest), true);
  assert.equal(compatibleWith(job(1, { width: 512 }), job(2, { width: 513 }), manifest), false);
  assert.equal(compatibleWith(a, b, { batch: { max: 1, by: [] } }), false);
});

test("every job is in exactly one run, in order, and no run is too large or mixed", () => {
  const jobs = fc.array(
    fc.record({ task: fc.constantFrom<Task>("txt2img", "img2img"), params: fc.record({ width: fc.integer({ min: 1, max: 3 }) }) }),
  );
  fc.assert(
    fc.property(jobs, fc.integer({ min: 1, max: 4 }), (list, max) => {
      const rule = { batch: { max, by: ["width"] } };
      const numbered = list.map((each, index) => ({ ...each, index }));
      const groups = planBatch(numbered, rule);
      assert.deepEqual(
        groups.flat().toSorted((a, b) => a.index - b.index),
        numbered,
      );
      for (const group of groups) {
        assert.ok(group.length <= max);
        for (const [i, member] of group.entries()) {
          const before = group[i - 1];
          if (before !== undefined) assert.ok(before.index < member.index && compatibleWith(before, member, rule));
        }
      }
    }),
  );
});
