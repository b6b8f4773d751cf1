import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobEvent } from "../protocol/event.ts";
import type { RequestRecord } from "../protocol/request.ts";
import type { JobResult } from "../protocol/result.ts";
import { deriveStatus, type JobState, type JobView } from "./job-state.ts";

const FINISHED = 5_000;
const record = (startedAt: number | null, cancelledAt: number | null): RequestRecord => ({
  v: 1,
  id: "request-1",
  queue: "flux",
  client: "c",
  task: "txt2img",
  model: "flux",
  params: {},
  inputs: [],
  priority: 1,
  timeoutMs: 1_000,
  webhookUrl: null,
  webhookSecretRef: null,
  createdAt: 1_000,
  startedAt,
  cancelledAt,
});
const result: JobResult = {
  v: 1,
  files: [],
  claim: 1,
  seed: 7,
  timings: { queueMs: 0, loadMs: 0, inputMs: 0, runMs: 0, encodeMs: 0, uploadMs: 0 },
  info: {},
  worker: "w",
  device: "cpu",
  finishedAt: FINISHED,
};
type QueueState = JobView["state"];
const job = (state: QueueState): JobView => ({
  state,
  failedReason: state === "failed" ? JSON.stringify({ code: "BAD_OUTPUT", message: "a black picture" }) : null,
  result: state === "completed" ? result : null,
  attemptsMade: 0,
  claim: 1,
  addedAt: 1_000,
  processedAt: null,
  finishedAt: state === "completed" || state === "failed" ? FINISHED : null,
});
const live: JobEvent = {
  v: 1,
  seq: 3,
  id: "request-1",
  claim: 1,
  at: 2_000,
  type: "preview",
  progress: 40,
  stage: "denoise",
  preview: "jpeg",
};

type Row = readonly [pending: string, started: string, cancelledBefore: string, cancelledAfter: string];
/** Per queue state: not started, started, cancelled before the end (or without one), cancelled after the end. */
const ROWS: Readonly<Record<QueueState | "none", Row>> = {
  waiting: ["pending", "processing", "error CANCELLED", "error CANCELLED"],
  delayed: ["pending", "processing", "error CANCELLED", "error CANCELLED"],
  "waiting-children": ["pending", "processing", "error CANCELLED", "error CANCELLED"],
  active: ["pending", "processing", "error CANCELLED", "error CANCELLED"],
  completed: ["done", "done", "error CANCELLED", "done"],
  failed: ["error BAD_OUTPUT", "error BAD_OUTPUT", "error CANCELLED", "error BAD_OUTPUT"],
  none: ["pending", "processing", "error CANCELLED", "error CANCELLED"],
};

const told = (state: JobState): string => [state.status, ...(state.error === null ? [] : [state.error.code])].join(" ");

test("the status of every combination of record and queue state, with and without live values", () => {
  for (const [state, row] of Object.entries(ROWS) as [QueueState | "none", Row][]) {
    for (const event of [live, null]) {
      const view = state === "none" ? null : job(state);
      const records = [record(null, null), record(1_500, null), record(1_500, FINISHED - 1), record(1_500, FINISHED + 1)];
      const seen = records.map((each) => told(deriveStatus({ record: each, job: view, live: event })));
      assert.deepEqual(seen, row, state);
    }
  }
});

test("error, result and end are there exactly when the status says so, and progress is always a number in its range", () => {
  for (const state of Object.keys(ROWS) as (QueueState | "none")[]) {
    for (const cancelledAt of [null, 2_000]) {
      for (const progress of [-5, 40, 400]) {
        const view = state === "none" ? null : job(state);
        const seen = deriveStatus({ record: record(1_500, cancelledAt), job: view, live: { ...live, progress } });
        assert.equal(seen.error !== null, seen.status === "error");
        assert.equal(seen.result !== null, seen.status === "done");
        assert.equal(seen.endedAt !== null, seen.status === "done" || seen.status === "error");
        assert.ok(seen.progress >= 0 && seen.progress <= 100);
      }
    }
  }
});

test("progress, stage and preview are the last live values while processing, and 100 without a preview when done", () => {
  const processing = deriveStatus({ record: record(1_500, null), job: job("active"), live });
  assert.deepEqual([processing.progress, processing.stage, processing.preview], [40, "denoise", "jpeg"]);
  const done = deriveStatus({ record: record(1_500, null), job: job("completed"), live });
  assert.deepEqual([done.progress, done.stage, done.preview, done.endedAt, done.result?.seed], [100, null, null, FINISHED, 7]);
  const pending = deriveStatus({ record: record(null, null), job: job("waiting"), live });
  assert.deepEqual([pending.progress, pending.preview], [0, null]);
});

test("a job that goes back to its queue after it was dispatched stays processing", () => {
  for (const state of ["active", "waiting", "delayed", "waiting-children"] as const) {
    assert.equal(deriveStatus({ record: record(1_500, null), job: job(state), live: null }).status, "processing");
  }
});

test("a failure that BullMQ wrote itself and a completed job without a record are errors that say so", () => {
  const stalled = { ...job("failed"), failedReason: "job stalled more than allowable limit" };
  assert.equal(deriveStatus({ record: record(1, null), job: stalled, live: null }).error?.code, "STALLED");
  assert.equal(
    deriveStatus({ record: record(1, null), job: { ...job("failed"), failedReason: null }, live: null }).error?.code,
    "INTERNAL",
  );
  assert.equal(deriveStatus({ record: record(1, null), job: { ...job("completed"), result: null }, live: null }).error?.code, "INTERNAL");
});
