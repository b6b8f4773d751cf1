import assert from "node:assert/strict";
import { test } from "node:test";
import { planNextAttempt, WEBHOOK_WAITS_MS } from "./webhook-schedule.ts";

test("ten attempts in 22 h 48 m, then the delivery has failed", () => {
  const waits = Array.from({ length: 9 }, (_, index) => planNextAttempt(index + 1, 503));
  const minutes = waits.map((step) => (step.kind === "retry" ? step.waitMs / 60_000 : step.kind));
  assert.deepEqual(minutes, [1, 2, 5, 10, 30, 60, 180, 360, 720]);
  assert.equal(WEBHOOK_WAITS_MS.length, 10);
  assert.equal(WEBHOOK_WAITS_MS.reduce((sum, wait) => sum + wait) / 60_000, 22 * 60 + 48);
  assert.deepEqual(planNextAttempt(10, 503), { kind: "failed" });
});

test("only 2xx is a success", () => {
  for (const status of [200, 201, 204, 299]) assert.deepEqual(planNextAttempt(1, status), { kind: "delivered" }, `status ${status}`);
  for (const status of [100, 199, 300, 301, 302, 307, 308, 400, 404, 429, 500, 503, null])
    assert.deepEqual(planNextAttempt(1, status), { kind: "retry", waitMs: 60_000 }, `status ${status}`);
});

test("410 ends a delivery at once", () => {
  assert.deepEqual(planNextAttempt(1, 410), { kind: "failed" });
});
