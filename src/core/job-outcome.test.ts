import assert from "node:assert/strict";
import { test } from "node:test";
import { ERROR_TABLE, type ErrorCode } from "../protocol/error.ts";
import {
  decideOutcome,
  decideRerun,
  isDeviceFault,
  MAX_BLAMED_FAULT_CLAIMS,
  MAX_PASS_ON,
  MAX_POSTPONED_CLAIMS,
  MAX_RETRY_AFTER_MS,
  mayConcernOthers,
  NO_FAULTS,
  type ClaimEnd,
  type ClaimOutcome,
} from "./job-outcome.ts";

const half = { random: () => 0.5 };
const end = (code: ErrorCode, more: Partial<ClaimEnd> = {}): ClaimEnd => ({
  error: { code, message: `it was ${code}` },
  attemptsMade: 0,
  maxAttempts: 3,
  earlierClaims: 0,
  deviceBlamed: false,
  faults: isDeviceFault(code) ? { onJob: 1, onDevice: 0 } : NO_FAULTS,
  passedOn: 0,
  otherLiveWorkers: true,
  ...more,
});
const outcome = (code: ErrorCode, more: Partial<ClaimEnd> = {}): ClaimOutcome => decideOutcome(end(code, more), half);
const errorOf = (value: ClaimOutcome): ErrorCode | undefined => ("error" in value ? value.error.code : undefined);

type Kinds = readonly [first: ClaimOutcome["kind"], lastAttempt: ClaimOutcome["kind"], onlyWorker: ClaimOutcome["kind"]];

/** Ends of a job that ran alone: its first attempt, its last attempt, its first attempt on the only worker. */
const ENDS: Readonly<Record<ErrorCode, Kinds>> = {
  INVALID_INPUT: ["fail", "fail", "fail"],
  NO_SOUND_TRACK: ["fail", "fail", "fail"],
  MEDIA_UNREADABLE: ["fail", "fail", "fail"],
  NOTHING_TO_SPEAK: ["fail", "fail", "fail"],
  IMAGE_UNREADABLE: ["fail", "fail", "fail"],
  IMAGE_SIZE_INVALID: ["fail", "fail", "fail"],
  INPUT_TOO_LARGE: ["fail", "fail", "fail"],
  INPUT_MISSING: ["fail", "fail", "fail"],
  REQUEST_UNKNOWN: ["fail", "fail", "fail"],
  SOURCE_REFUSED: ["fail", "fail", "fail"],
  TOO_MANY_REDIRECTS: ["fail", "fail", "fail"],
  SOURCE_NOT_FOUND: ["fail", "fail", "fail"],
  SOURCE_RESTRICTED: ["fail", "fail", "fail"],
  SOURCE_UNPROCESSABLE: ["fail", "fail", "fail"],
  SOURCE_CERTIFICATE_INVALID: ["fail", "fail", "fail"],
  SOURCE_DOWNLOAD_FAILED: ["retry", "fail", "retry"],
  CONTEXT_LENGTH_EXCEEDED: ["fail", "fail", "fail"],
  CANCELLED: ["cancelled", "cancelled", "cancelled"],
  JOB_TIMEOUT: ["fail", "fail", "fail"],
  STAGE_TIMEOUT: ["retry", "fail", "retry"],
  RUNNER_CRASHED: ["retry", "fail", "retry"],
  POISON_JOB: ["fail", "fail", "fail"],
  STALLED: ["fail", "fail", "fail"],
  OUT_OF_MEMORY: ["pass-on", "pass-on", "fail"],
  DOES_NOT_FIT: ["pass-on", "pass-on", "fail"],
  PIPELINE_FAILED: ["retry", "fail", "retry"],
  BAD_OUTPUT: ["retry", "fail", "retry"],
  MODEL_NOT_FOUND: ["pass-on", "pass-on", "fail"],
  MODEL_CORRUPT: ["pass-on", "pass-on", "fail"],
  MODEL_UNSUPPORTED: ["pass-on", "pass-on", "fail"],
  MANIFEST_INVALID: ["pass-on", "pass-on", "fail"],
  LOAD_TIMEOUT: ["pass-on", "pass-on", "fail"],
  DEVICE_FAILED: ["retry", "fail", "retry"],
  DEVICE_UNAVAILABLE: ["retry", "fail", "retry"],
  CAPACITY_UNAVAILABLE: ["hand-back", "hand-back", "hand-back"],
  JOB_DAMAGED: ["fail", "fail", "fail"],
  JOB_VERSION_UNSUPPORTED: ["pass-on", "pass-on", "fail"],
  RECORD_UNREADABLE: ["pass-on", "pass-on", "fail"],
  IPC_MISMATCH: ["pass-on", "pass-on", "fail"],
  SPOOL_FULL: ["hand-back", "hand-back", "hand-back"],
  STORAGE_UNAVAILABLE: ["postpone", "postpone", "postpone"],
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

test("nothing but a lost lock is abandoned, and a cancelled job is cancelled", () => {
  assert.deepEqual(outcome("LOCK_LOST"), { kind: "abandon" });
  assert.deepEqual(outcome("CANCELLED"), { kind: "cancelled" });
});

test("what goes wrong within a batch and is not a client's fault has each member run again alone", () => {
  for (const [code, { blame }] of Object.entries(ERROR_TABLE) as [ErrorCode, { blame: string }][]) {
    if (code === "OUT_OF_MEMORY" || code === "SPOOL_FULL") continue;
    const again = decideRerun({ error: { code, message: "" }, alone: false, afterEviction: false });
    assert.deepEqual(again, blame === "machine" || blame === "model" ? { evictOthers: false } : null, code);
    assert.equal(decideRerun({ error: { code, message: "" }, alone: true, afterEviction: false }), null, `${code} alone`);
  }
});

test("out of memory runs again alone after the eviction of others, once; then it does not fit", () => {
  const error = { code: "OUT_OF_MEMORY", message: "arena" } as const;
  assert.deepEqual(decideRerun({ error, alone: false, afterEviction: false }), { evictOthers: true });
  assert.deepEqual(decideRerun({ error, alone: false, afterEviction: true }), { evictOthers: true });
  assert.deepEqual(decideRerun({ error, alone: true, afterEviction: false }), { evictOthers: true });
  assert.equal(decideRerun({ error, alone: true, afterEviction: true }), null);
  const passed = outcome("OUT_OF_MEMORY");
  assert.deepEqual([passed.kind, errorOf(passed)], ["pass-on", "DOES_NOT_FIT"]);
  const failed = outcome("OUT_OF_MEMORY", { otherLiveWorkers: false });
  assert.deepEqual([failed.kind, errorOf(failed)], ["fail", "DOES_NOT_FIT"]);
});

test("a device fault is tried once more on a fresh runner before the job fails", () => {
  for (const code of ["RUNNER_CRASHED", "STAGE_TIMEOUT", "DEVICE_FAILED", "DEVICE_UNAVAILABLE"] as const) {
    assert.equal(isDeviceFault(code), true);
    assert.equal(outcome(code, { otherLiveWorkers: false }).kind, "retry", code);
    assert.equal(outcome(code, { faults: { onJob: 2, onDevice: 0 }, attemptsMade: 1 }).kind, "fail", code);
  }
});

test("a job that crashed runners on two claims is a poison job, with the black box of the last crash", () => {
  const error = { code: "RUNNER_CRASHED" as const, message: "SIGSEGV", blackBox: { signal: "SIGSEGV" } };
  assert.deepEqual(decideOutcome({ ...end("RUNNER_CRASHED"), error, faults: { onJob: 2, onDevice: 0 } }, half), {
    kind: "fail",
    error: {
      code: "POISON_JOB",
      message: "it crashed the inference process on 2 claims; the last time: SIGSEGV",
      blackBox: { signal: "SIGSEGV" },
    },
  });
});

test("a stage that timed out on two claims fails under its own name", () => {
  assert.equal(errorOf(outcome("STAGE_TIMEOUT", { faults: { onJob: 2, onDevice: 0 } })), "STAGE_TIMEOUT");
});

test("what a blamed device did spends no attempt: passed on, or later on this one where there is no other", () => {
  const blamed = { deviceBlamed: true, faults: { onJob: 1, onDevice: 1 }, attemptsMade: 2 };
  assert.equal(outcome("RUNNER_CRASHED", blamed).kind, "pass-on");
  assert.equal(outcome("RUNNER_CRASHED", { ...blamed, otherLiveWorkers: false }).kind, "postpone");
  assert.equal(outcome("RUNNER_CRASHED", { ...blamed, passedOn: MAX_PASS_ON }).kind, "postpone");
});

test("however bad the device, a job does not come back to it for ever", () => {
  const faults = { onJob: 0, onDevice: MAX_BLAMED_FAULT_CLAIMS };
  assert.equal(errorOf(outcome("RUNNER_CRASHED", { deviceBlamed: true, faults, otherLiveWorkers: false })), "POISON_JOB");
});

test("an object store that is away costs no attempt, and comes to an end", () => {
  assert.equal(outcome("STORAGE_UNAVAILABLE", { attemptsMade: 2, earlierClaims: MAX_POSTPONED_CLAIMS - 1 }).kind, "postpone");
  assert.equal(outcome("STORAGE_UNAVAILABLE", { attemptsMade: 2, earlierClaims: MAX_POSTPONED_CLAIMS }).kind, "fail");
});

test("a server that names a time is not asked before it, and not at all when it is long", () => {
  const asked = (retryAfterMs: number): ClaimOutcome =>
    outcome("SOURCE_DOWNLOAD_FAILED", { error: { code: "SOURCE_DOWNLOAD_FAILED", message: "429", retryAfterMs } });
  const delayOf = (value: ClaimOutcome): number | null => (value.kind === "retry" ? value.delayMs : null);
  assert.equal(delayOf(asked(0)), 500, "the usual delay");
  assert.equal(delayOf(asked(90_000)), 90_000);
  assert.equal(delayOf(asked(MAX_RETRY_AFTER_MS)), MAX_RETRY_AFTER_MS);
  assert.equal(asked(MAX_RETRY_AFTER_MS + 1).kind, "fail");
});

test("an outcome that depends on other workers says so beforehand", () => {
  for (const code of Object.keys(ERROR_TABLE) as ErrorCode[])
    for (const deviceBlamed of [false, true]) {
      const seen = [true, false].map((otherLiveWorkers) => outcome(code, { deviceBlamed, otherLiveWorkers }).kind);
      if (seen[0] !== seen[1]) assert.equal(mayConcernOthers(end(code, { deviceBlamed })), true, code);
    }
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

test("a full disk makes no member of a batch run again: it would meet the same", () => {
  assert.equal(decideRerun({ error: { code: "SPOOL_FULL", message: "" }, alone: false, afterEviction: false }), null);
});
