import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError, type ErrorCode } from "../protocol/error.ts";
import type { RunnerJob } from "../protocol/ipc.ts";
import { parseManifest } from "../protocol/manifest.ts";
import type { OpenGraphs } from "./graph/open-graphs.ts";
import { jobPipeline, type JobFamily } from "./job-pipeline.ts";
import type { JobEnd, LoadContext, Pipeline, RunContext } from "./pipeline.ts";

const manifest = parseManifest(
  {
    version: 1,
    slug: "some",
    name: "Some",
    family: "fake",
    tasks: ["txt2img"],
    license: { id: "x", commercial: true },
    source: { repository: "x" },
    memoryBytes: { cpu: 1 },
  },
  "test",
);
const MADE = { files: [], seed: 1, info: {} };

interface Told {
  readonly ends: Map<string, JobEnd>;
  readonly context: RunContext;
  readonly cancelled: Set<string>;
  readonly end: (id: string, end: JobEnd) => void;
}

function told(): Told {
  const ends = new Map<string, JobEnd>();
  const cancelled = new Set<string>();
  const context: RunContext = {
    stage: () => undefined,
    cancelled: (id) => cancelled.has(id),
    progress: () => undefined,
    preview: () => undefined,
  };
  return { ends, cancelled, context, end: (id, end) => void ends.set(id, end) };
}

const job = (id: string): RunnerJob => ({ id, task: "txt2img", params: {}, inputs: [], outDir: "/nowhere" });

function open(make: JobFamily<Model>["make"], probe: JobFamily<Model>["probe"] = async () => [1]): Promise<Pipeline> {
  const nothing = async (): Promise<void> => undefined;
  const model = { sessionMs: () => 7, stagingMs: () => ({ wakeMs: 0, parkMs: 0 }), enter: nothing, release: nothing };
  return jobPipeline({ open: async () => model, probe, make })({ manifest } as LoadContext);
}
type Model = OpenGraphs;

test("jobs run one after the other, each to its own end, whatever became of the one before", async () => {
  const running = new Set<string>();
  const pipeline = await open(async (run) => {
    assert.equal(running.size, 0);
    running.add(run.job.id);
    run.begin("work");
    running.delete(run.job.id);
    if (run.job.id === "bad") throw new AppError("INVALID_INPUT", "no");
    if (run.job.id === "full") throw new AppError("SPOOL_FULL", "no room");
    return MADE;
  });
  const { ends, context, end } = told();
  await pipeline.run(["bad", "full", "good"].map(job), context, end);
  assert.deepEqual(
    [...ends].map(([id, { ok }]) => [id, ok]),
    [
      ["bad", false],
      ["full", false],
      ["good", true],
    ],
  );
});

test("what concerns the device ends the batch; those that had not ended are left to the caller", async () => {
  for (const code of ["OUT_OF_MEMORY", "DEVICE_FAILED", "DEVICE_UNAVAILABLE"] satisfies readonly ErrorCode[]) {
    const pipeline = await open(async (run) => {
      if (run.job.id === "second") throw new AppError(code, "gone");
      return MADE;
    });
    const { ends, context, end } = told();
    await assert.rejects(pipeline.run(["first", "second", "third"].map(job), context, end), { code });
    assert.deepEqual([...ends.keys()], ["first"]);
  }
});

test("a cancel ends a job before it runs and at its next stage, and no other", async () => {
  const { ends, cancelled, context, end } = told();
  const pipeline = await open(async (run) => {
    if (run.job.id === "second") cancelled.add("second");
    run.begin("work");
    return MADE;
  });
  cancelled.add("first");
  await pipeline.run(["first", "second", "third"].map(job), context, end);
  const codes = [...ends.values()].map((each) => (each.ok ? "done" : (each.error as AppError).code));
  assert.deepEqual(codes, ["CANCELLED", "CANCELLED", "done"]);
});

test("time counts as what the family says it is spent on, input first, and adds up", async () => {
  const pipeline = await open(async (run) => {
    run.spend("run");
    run.spend("encode");
    run.spend("run");
    return MADE;
  });
  const { ends, context, end } = told();
  const startedAt = performance.now();
  await pipeline.run([job("one")], context, end);
  const totalMs = performance.now() - startedAt;
  const done = ends.get("one");
  assert.ok(done?.ok === true);
  const { inputMs, runMs, encodeMs, sessionMs } = done.output;
  assert.ok([inputMs, runMs, encodeMs].every((ms) => ms >= 0) && inputMs + runMs + encodeMs <= totalMs);
  assert.equal(sessionMs, 0);
});

test("a probe whose values are missing or not finite says that the device cannot be used", async () => {
  for (const values of [[], [1, Number.NaN], Float32Array.of(Infinity)]) {
    const pipeline = await open(
      async () => MADE,
      async () => values,
    );
    await assert.rejects(pipeline.probe(), { code: "DEVICE_UNAVAILABLE", message: /model some/ });
  }
  await (await open(async () => MADE)).probe();
});
