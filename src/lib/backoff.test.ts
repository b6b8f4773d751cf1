import assert from "node:assert/strict";
import { test } from "node:test";
import { backoffDelayMs, sleep } from "./backoff.ts";

const policy = { firstMs: 500, factor: 2, maxMs: 30_000, jitter: 0.5 };

test("delays grow by the factor up to the cap and stay there for ever", () => {
  const delays = [1, 2, 3, 6, 7, 8, 1_000_000].map((attempt) => backoffDelayMs(policy, attempt, () => 0));
  assert.deepEqual(delays, [500, 1000, 2000, 16_000, 30_000, 30_000, 30_000]);
});

test("jitter takes off at most its share", () => {
  assert.equal(
    backoffDelayMs(policy, 1, () => 1),
    250,
  );
  assert.equal(
    backoffDelayMs(policy, 1, () => 0.5),
    375,
  );
});

test("an aborted sleep rejects with the signal's reason", async () => {
  const reason = new Error("stop");
  await assert.rejects(sleep(60_000, AbortSignal.abort(reason)), reason);
  const controller = new AbortController();
  const waiting = sleep(60_000, controller.signal);
  controller.abort(reason);
  await assert.rejects(waiting, reason);
});
