import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { planNextAttempt, WEBHOOK_WAITS_MS, type DeliveryStep } from "./webhook-schedule.ts";

const MINUTE = 60_000;
const plan = (attempt: number, status: number | null, retryAfterMs: number | null = null): DeliveryStep =>
  planNextAttempt(attempt, { status, retryAfterMs });

test("ten attempts in 22 h 48 m, then the delivery has failed", () => {
  const steps = Array.from({ length: 9 }, (_, index) => plan(index + 1, 503));
  assert.deepEqual(
    steps,
    [1, 2, 5, 10, 30, 60, 180, 360, 720].map((minutes, index) => ({ kind: "retry", waitMs: minutes * MINUTE, attempt: index + 2 })),
  );
  assert.equal(WEBHOOK_WAITS_MS.length, 10);
  assert.equal(WEBHOOK_WAITS_MS.reduce((sum, wait) => sum + wait) / MINUTE, 22 * 60 + 48);
  assert.deepEqual(plan(10, 503), { kind: "failed" });
});

test("only 2xx is a success", () => {
  for (const status of [200, 201, 204, 299]) assert.deepEqual(plan(1, status), { kind: "delivered" }, `status ${status}`);
  for (const status of [100, 199, 300, 301, 302, 307, 308, 400, 404, 429, 500, 503, null])
    assert.deepEqual(plan(1, status), { kind: "retry", waitMs: MINUTE, attempt: 2 }, `status ${status}`);
});

test("410 ends a delivery at once", () => {
  assert.deepEqual(plan(1, 410), { kind: "failed" });
});

test("a busy receiver's Retry-After leaves out the attempts before it", () => {
  for (const status of [429, 503]) {
    assert.deepEqual(plan(1, status, 60_000), { kind: "retry", waitMs: MINUTE, attempt: 2 }, "asks for what the schedule does");
    assert.deepEqual(plan(1, status, 60_001), { kind: "retry", waitMs: 3 * MINUTE, attempt: 3 });
    assert.deepEqual(plan(3, status, 3_600_000), { kind: "retry", waitMs: 105 * MINUTE, attempt: 7 }, "5 + 10 + 30 + 60 minutes");
    assert.deepEqual(plan(1, status, Infinity), { kind: "retry", waitMs: (22 * 60 + 48) * MINUTE, attempt: 10 }, "the last is made");
  }
  for (const status of [200, 400, 500, 502, 504, 410, null])
    assert.deepEqual(plan(1, status, 3_600_000), plan(1, status), `status ${status} says nothing about when`);
});

test("whatever receivers ask for, attempts are at the schedule's times and never before they asked, save for the last", () => {
  const offsets = WEBHOOK_WAITS_MS.map((_, index) => WEBHOOK_WAITS_MS.slice(0, index + 1).reduce((sum, wait) => sum + wait));
  const asked = fc.array(fc.oneof(fc.constant(null), fc.integer({ min: 0, max: 100_000_000 })), { minLength: 10, maxLength: 10 });
  fc.assert(
    fc.property(asked, (answers) => {
      let at = 0;
      let attempt = 1;
      for (const retryAfterMs of answers) {
        const step = plan(attempt, 503, retryAfterMs);
        if (step.kind !== "retry") return attempt === 10;
        at += step.waitMs;
        attempt = step.attempt;
        assert.equal(at, offsets[attempt - 1], `attempt ${attempt}`);
        assert.ok(step.waitMs >= (retryAfterMs ?? 0) || attempt === 10);
      }
      return true;
    }),
  );
});
