import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR_TABLE, type ErrorCode } from "../protocol/error.ts";
import { countsAsCrash, decideOutcome, MAX_PASS_ON, type ClaimEnd, type JobOutcome } from "./job-outcome.ts";

const half = { random: () => 0.5 };
const end = (code: ErrorCode | null, more: Partial<ClaimEnd> = {}): ClaimEnd => ({
  error: code === null ? null : { code, message: `it was ${code}` },
  attemptsMade: 0,
  maxAttempts: 3,
  crashClaims: 0,
  passedOn: 0,
  otherLiveWorkers: true,
  wasAlone: true,
  afterEviction: false,
  deviceBlamed: false,
  cancelled: false,
  preempted: false,
  ...more,
});
const outcome = (code: ErrorCode | null, more: Partial<ClaimEnd> = {}): JobOutcome => decideOutcome(end(code, more), half);
const errorOf = (value: JobOutcome): ErrorCode | undefined => ("error" in value ? value.error.code : undefined);

type Kinds = readonly [first: JobOutcome["kind"], lastAttempt: JobOutcome["kind"], onlyWorker: JobOutcome["kind"]];

/** Ends of a job that ran alone: its first attempt, its last attempt, its first attempt on the only worker. */
const ENDS: Readonly<Record<ErrorCode, Kinds>> = {
  INVALID_INPUT: ["fail", "fail", "fail"],
  IMAGE_UNREADABLE: ["fail", "fail", "fail"],
  INPUT_TOO_LARGE: ["fail", "fail", "fail"],
  INPUT_MISSING: ["fail", "fail", "fail"],
  SOURCE_DOWNLOAD_FAILED: ["retry", "fail", "retry"],
  CONTEXT_LENGTH_EXCEEDED: ["fail", "fail", "fail"],
  CANCELLED: ["cancelled", "cancelled", "cancelled"],
  JOB_TIMEOUT: ["fail", "fail", "fail"],
  STAGE_TIMEOUT: ["retry", "fail", "retry"],
  RUNNER_CRASHED: ["retry", "fail", "retry"],
  POISON_JOB: ["fail", "fail", "fail"],
  STALLED: ["fail", "fail", "fail"],
  OUT_OF_MEMORY: ["rerun-alone", "rerun-alone", "rerun-alone"],
  DOES_NOT_FIT: ["pass-on", "pass-on", "fail"],
  PIPELINE_FAILED: ["retry", "fail", "retry"],
  BAD_OUTPUT: ["retry", "fail", "retry"],
  MODEL_NOT_FOUND: ["pass-on", "pass-on", "fail"],
  MODEL_CORRUPT: ["pass-on", "pass-on", "fail"],
  MODEL_UNSUPPORTED: ["pass-on", "pass-on", "fail"],
  MANIFEST_INVALID: ["pass-on", "pass-on", "fail"],
  LOAD_TIMEOUT: ["pass-on", "pass-on", "fail"],
  DEVICE_UNAVAILABLE: ["pass-on", "pass-on", "fail"],
  CAPACITY_UNAVAILABLE: ["pass-on", "pass-on", "fail"],
  JOB_VERSION_UNSUPPORTED: ["pass-on", "pass-on", "fail"],
  RECORD_UNREADABLE: ["pass-on", "pass-on", "fail"],
  IPC_MISMATCH: ["pass-on", "pass-on", "fail"],
  SPOOL_FULL: ["retry", "fail", "retry"],
  STORAGE_UNAVAILABLE: ["retry", "fail", "retry"],
  STORAGE_REJECTED: ["retry", "fail", "retry"],
  REDIS_UNAVAILABLE: ["retry", "fail", "retry"],
  CONFIG_INVALID: ["fail", "fail", "fail"],
  LOCK_LOST: ["abandon", "abandon", "abandon"],
  INTERNAL: ["retry", "fail", "retry"],
};

test("every error code of the table has its end", () => {
  assert.deepEqual(Object.keys(ENDS).toSorted(), Object.keys(ERROR_TABLE).toSorted());
  for (const [code, kinds] of Object.entries(ENDS) as [ErrorCode, Kinds][]) {
    const seen = [outcome(code), outcome(code, { attemptsMade: 2 }), outcome(code, { otherLiveWorkers: false })];
    assert.deepEqual(
      seen.map(({ kind }) => kind),
      kinds,
      code,
    );
  }
});

test("a failure keeps its code and message", () => {
  assert.deepEqual(outcome("IMAGE_UNREADABLE"), { kind: "fail", error: { code: "IMAGE_UNREADABLE", message: "it was IMAGE_UNREADABLE" } });
});

test("a result completes the job, also while shutting down, but never a cancelled one", () => {
  assert.deepEqual(outcome(null), { kind: "complete" });
  assert.deepEqual(outcome(null, { preempted: true }), { kind: "complete" });
  assert.deepEqual(outcome(null, { cancelled: true }), { kind: "cancelled" });
});

test("a lost lock beats everything, cancel beats the rest", () => {
  assert.deepEqual(outcome("LOCK_LOST", { cancelled: true, preempted: true }), { kind: "abandon" });
  assert.deepEqual(outcome("RUNNER_CRASHED", { cancelled: true, preempted: true, wasAlone: false }), { kind: "cancelled" });
});

test("a run that this worker cut short is handed back, whatever it looked like", () => {
  for (const code of ["RUNNER_CRASHED", "OUT_OF_MEMORY", "INTERNAL", "JOB_TIMEOUT"] as const) {
    assert.deepEqual(outcome(code, { preempted: true, attemptsMade: 2, wasAlone: false }), { kind: "hand-back" });
  }
});

test("the members of a crashed batch rerun alone and nobody is counted", () => {
  assert.deepEqual(outcome("RUNNER_CRASHED", { wasAlone: false, crashClaims: 5 }), { kind: "rerun-alone", evictOthers: false });
  assert.equal(countsAsCrash(end("RUNNER_CRASHED", { wasAlone: false })), false);
});

test("a crash alone counts unless the device is to blame or the worker did it", () => {
  assert.equal(countsAsCrash(end("RUNNER_CRASHED")), true);
  for (const more of [{ deviceBlamed: true }, { cancelled: true }, { preempted: true }])
    assert.equal(countsAsCrash(end("RUNNER_CRASHED", more)), false);
  assert.equal(countsAsCrash(end("STAGE_TIMEOUT")), false);
  assert.equal(countsAsCrash(end(null)), false);
});

test("a job that crashed runners on two claims is a poison job, with the black box of the last crash", () => {
  const error = { code: "RUNNER_CRASHED" as const, message: "SIGSEGV", blackBox: { signal: "SIGSEGV" } };
  assert.equal(decideOutcome(end(null, { error, crashClaims: 1 }), half).kind, "retry");
  assert.deepEqual(decideOutcome(end(null, { error, crashClaims: 2 }), half), {
    kind: "fail",
    error: {
      code: "POISON_JOB",
      message: "it crashed the inference process on 2 claims; the last time: SIGSEGV",
      blackBox: { signal: "SIGSEGV" },
    },
  });
});

test("a blamed device passes the job on instead of calling it poison; alone in the fleet it retries", () => {
  assert.equal(outcome("RUNNER_CRASHED", { deviceBlamed: true, crashClaims: 2 }).kind, "pass-on");
  assert.equal(outcome("RUNNER_CRASHED", { deviceBlamed: true, crashClaims: 2, otherLiveWorkers: false }).kind, "retry");
  assert.equal(errorOf(outcome("RUNNER_CRASHED", { deviceBlamed: true, otherLiveWorkers: false, attemptsMade: 2 })), "RUNNER_CRASHED");
});

test("out of memory: once alone after eviction, then it does not fit here", () => {
  assert.deepEqual(outcome("OUT_OF_MEMORY", { wasAlone: false }), { kind: "rerun-alone", evictOthers: true });
  assert.deepEqual(outcome("OUT_OF_MEMORY", { wasAlone: false, afterEviction: true }), { kind: "rerun-alone", evictOthers: true });
  const passed = outcome("OUT_OF_MEMORY", { afterEviction: true });
  assert.deepEqual([passed.kind, errorOf(passed)], ["pass-on", "DOES_NOT_FIT"]);
  const failed = outcome("OUT_OF_MEMORY", { afterEviction: true, otherLiveWorkers: false });
  assert.deepEqual([failed.kind, errorOf(failed)], ["fail", "DOES_NOT_FIT"]);
});

test("a job is passed on three times at most", () => {
  assert.equal(outcome("MODEL_CORRUPT", { passedOn: MAX_PASS_ON - 1 }).kind, "pass-on");
  assert.equal(outcome("MODEL_CORRUPT", { passedOn: MAX_PASS_ON }).kind, "fail");
});

test("the delay is exponential with full jitter and capped", () => {
  const delay = (attemptsMade: number, random: number): number => {
    const value = decideOutcome(end("INTERNAL", { attemptsMade, maxAttempts: 99 }), {
      random: () => random,
      backoff: { firstMs: 100, maxMs: 1_000, factor: 2, jitter: 1 },
    });
    assert.equal(value.kind, "retry");
    return value.kind === "retry" ? value.delayMs : -1;
  };
  assert.deepEqual(
    [delay(0, 0), delay(0, 0.5), delay(1, 0.5), delay(3, 0.5), delay(4, 0.5), delay(90, 0.5)],
    [100, 50, 100, 400, 500, 500],
  );
});
