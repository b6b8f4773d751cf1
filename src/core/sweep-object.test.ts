import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestRecord } from "../protocol/request.ts";
import { RESULT_VERSION, type JobResult } from "../protocol/result.ts";
import type { EndView } from "./job-state.ts";
import { decideSweep, parseObjectName, SWEEP_MARGIN_MS, sweptRequest, type SweptRequest } from "./sweep-object.ts";

const ID = "11111111-2222-4333-8444-555555555555";
const INPUT = `inputs/${ID}/0.png`;
const OUTPUT = `outputs/${ID}/2/image.png`;
const RETENTION_MS = 1_000_000;
const OLD = RETENTION_MS + SWEEP_MARGIN_MS + 1;

const RECORD: RequestRecord = {
  v: 1,
  id: ID,
  queue: "tiny",
  client: "local",
  task: "txt2img",
  model: "tiny",
  params: {},
  inputs: [],
  priority: 1,
  timeoutMs: 1_000,
  webhookUrl: null,
  webhookSecretRef: null,
  createdAt: 1,
  startedAt: null,
  cancelledAt: null,
};

const RESULT = { v: RESULT_VERSION, files: [{ key: OUTPUT }], claim: 2, finishedAt: 50 } as unknown as JobResult;

const job = (state: EndView["state"], more: Partial<EndView> = {}): EndView => ({
  state,
  failedReason: null,
  result: state === "completed" ? RESULT : null,
  finishedAt: state === "completed" || state === "failed" ? 50 : null,
  ...more,
});

function fate(key: string, request: SweptRequest, ageMs: number = 0, retentionMs: number | null = RETENTION_MS): string {
  const name = parseObjectName(key);
  assert.ok(name !== null);
  const decision = decideSweep({ key, name, ageMs, request }, retentionMs);
  return decision.keep ? "keep" : decision.reason;
}

test("only keys of our own shape have a fate", () => {
  assert.deepEqual(parseObjectName(INPUT), { kind: "input", id: ID });
  assert.deepEqual(parseObjectName(OUTPUT), { kind: "output", id: ID });
  assert.deepEqual(parseObjectName("checks/0123456789abcdef"), { kind: "check", id: "" });
  for (const key of [
    "inputs/README.txt",
    `inputs/${ID}`,
    "outputs/mine/x.png",
    `backup/${ID}/1/x.png`,
    "checks/notes.txt",
    `x/inputs/${ID}/0.png`,
  ])
    assert.equal(parseObjectName(key), null, key);
});

test("what belongs to a request that goes on stays, however old", () => {
  for (const state of ["waiting", "delayed", "waiting-children", "active"] as const) {
    for (const record of [RECORD, { ...RECORD, cancelledAt: 5 }]) {
      const request = sweptRequest(record, job(state));
      assert.deepEqual([fate(INPUT, request, OLD), fate(OUTPUT, request, OLD)], ["keep", "keep"], state);
    }
  }
});

test("a record whose job is still to be queued goes on; one that was cancelled before that has ended", () => {
  assert.equal(fate(INPUT, sweptRequest(RECORD, null), OLD), "keep");
  assert.equal(fate(INPUT, sweptRequest({ ...RECORD, cancelledAt: 5 }, null)), "ended-input");
});

test("of a completed request the result's files stay, its inputs and other claims' outputs go", () => {
  const request = sweptRequest(RECORD, job("completed"));
  assert.equal(fate(OUTPUT, request, OLD), "keep");
  assert.equal(fate(INPUT, request), "ended-input");
  for (const claim of [1, 3]) assert.equal(fate(`outputs/${ID}/${claim}/image.png`, request), "unnamed-output");
});

test("of a failed request nothing stays", () => {
  const request = sweptRequest(RECORD, job("failed", { failedReason: "{}" }));
  assert.deepEqual([fate(INPUT, request), fate(OUTPUT, request)], ["ended-input", "unnamed-output"]);
});

test("a request that was cancelled while it completed loses its output; one cancelled after its end keeps it", () => {
  assert.equal(fate(OUTPUT, sweptRequest({ ...RECORD, cancelledAt: 49 }, job("completed"))), "unnamed-output");
  assert.equal(fate(OUTPUT, sweptRequest({ ...RECORD, cancelledAt: 50 }, job("completed"))), "keep");
});

test("a result that is damaged or of a newer version takes nothing away", () => {
  for (const result of [
    null,
    { ...RESULT, v: RESULT_VERSION + 1 },
    { ...RESULT, files: undefined },
    { ...RESULT, files: [null] },
    { ...RESULT, files: [{ name: "image.png" }] },
    "text",
  ]) {
    const request = sweptRequest(RECORD, job("completed", { result: result as never }));
    assert.equal(request.kind, "unreadable", JSON.stringify(result));
    assert.deepEqual([fate(INPUT, request, OLD), fate(OUTPUT, request, OLD)], ["keep", "keep"]);
  }
});

test("an object of an unknown request stays for the retention and a margin", () => {
  const request = sweptRequest(null, null);
  for (const key of [INPUT, OUTPUT]) {
    assert.equal(fate(key, request, RETENTION_MS + SWEEP_MARGIN_MS), "keep");
    assert.equal(fate(key, request, OLD), "unknown-request");
    assert.equal(fate(key, request, -1), "keep");
    assert.equal(fate(key, request, OLD, null), "keep", "it may be another system's");
  }
});

test("a probe that a crash left goes after the margin", () => {
  assert.equal(fate("checks/0123456789abcdef", { kind: "unknown" }, SWEEP_MARGIN_MS), "keep");
  assert.equal(fate("checks/0123456789abcdef", { kind: "unknown" }, SWEEP_MARGIN_MS + 1), "check");
});
