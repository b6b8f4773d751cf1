import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AppError,
  ERROR_TABLE,
  fromErrorData,
  MAX_ERROR_DETAIL_BYTES,
  parseFailedReason,
  publicMessage,
  toErrorData,
  type ErrorCode,
  type ErrorRow,
} from "./error.ts";
import { parseRunnerMessage } from "./ipc.ts";

const rows = Object.entries(ERROR_TABLE) as readonly (readonly [ErrorCode, ErrorRow])[];

test("every code tells the client a sentence and what to do", () => {
  for (const [code, { publicText, advice, http }] of rows) {
    for (const text of [publicText, advice]) assert.match(text, /^[A-Z][^\n]*\.$/, code);
    assert.ok(http >= 400 && http < 600, code);
  }
  const texts = rows.map(([, { publicText }]) => publicText);
  assert.equal(new Set(texts).size, texts.length, "no two codes read the same");
});

test("what a client did wrong stays wrong, and a transient failure does not", () => {
  for (const [code, { apiCode, blame, retry, retryable }] of rows) {
    if (apiCode === "INVALID_INPUT" && blame === "client") assert.deepEqual([retry, retryable], ["never", false], code);
    if (retry === "backoff") assert.equal(retryable, true, code);
  }
});

test("what is wrong survives the way from a runner to a client", () => {
  const error = new AppError("NO_SOUND_TRACK", "/spool/x/in/0 has no sound track", { field: "video", detail: "It has no sound track." });
  const message = parseRunnerMessage({ type: "job-failed", id: "job-1", error: toErrorData(error) });
  assert.ok(message?.type === "job-failed");
  const stored = parseFailedReason(JSON.stringify(toErrorData(fromErrorData(message.error))));
  assert.deepEqual(stored, {
    code: "NO_SOUND_TRACK",
    message: "/spool/x/in/0 has no sound track",
    detail: "It has no sound track.",
    field: "video",
  });
  assert.equal(publicMessage(stored), "The file has no sound. It has no sound track.");
});

test("records of older versions, and damaged ones, are read without what they lack", () => {
  assert.deepEqual(parseFailedReason('{"code":"INVALID_INPUT","message":"old"}'), { code: "INVALID_INPUT", message: "old" });
  for (const wrong of [
    { detail: 7 },
    { detail: "" },
    { field: {} },
    { field: "x".repeat(65) },
    { retryAfterMs: "soon" },
    { blackBox: null },
  ])
    assert.deepEqual(parseFailedReason(JSON.stringify({ code: "INTERNAL", message: "m", ...wrong })), { code: "INTERNAL", message: "m" });
  assert.equal(publicMessage(parseFailedReason('{"code":"OF_TOMORROW","message":"m","detail":"d"}')), ERROR_TABLE.INTERNAL.publicText);
  const blackBox = { signal: "SIGSEGV" };
  assert.deepEqual(parseFailedReason(JSON.stringify({ code: "RUNNER_CRASHED", message: "m", blackBox })).blackBox, blackBox);
});

test("a detail is short and holds no secret", () => {
  const detail = `The URL is https://x.example/?X-Amz-Signature=${"a".repeat(40)} and ${"long ".repeat(100)}`;
  const told = toErrorData(new AppError("SOURCE_REFUSED", "m", { detail })).detail ?? "";
  assert.doesNotMatch(told, /aaaa/);
  assert.ok(Buffer.byteLength(JSON.stringify(told)) <= MAX_ERROR_DETAIL_BYTES + 2);
});
