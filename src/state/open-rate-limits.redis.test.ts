import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openRateLimits } from "./open-rate-limits.ts";

/** The first millisecond of a UTC day, and so of a minute; far enough ahead that nothing expires in a test. */
const MIDNIGHT = (Math.floor(Date.now() / 86_400_000) + 1) * 86_400_000;

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

function setup() {
  const clock = { now: MIDNIGHT };
  return { clock, limits: openRateLimits({ redis, keys: rig.namespace(), now: () => clock.now }) };
}

test("of many submits at the same time over three gateways exactly the limit passes", async () => {
  const keys = rig.namespace();
  const gateways = await Promise.all(
    [1, 2, 3].map(async () => openRateLimits({ redis: await rig.connect("producer"), keys, now: () => MIDNIGHT })),
  );
  const all = await Promise.all(
    gateways.flatMap((limits) => Array.from({ length: 20 }, () => limits.take("c", { perMinute: 25, perDay: 0 }))),
  );
  const allowed = all.filter((decision) => decision.allowed);
  assert.equal(allowed.length, 25);
  assert.deepEqual(
    allowed.map(({ remaining }) => remaining).toSorted((a, b) => a - b),
    Array.from({ length: 25 }, (_, index) => index),
  );
});

test("a full minute says how long it lasts, and the next one is free", async () => {
  const { clock, limits } = setup();
  clock.now += 12_000;
  const minute = { perMinute: 1, perDay: 0 };
  assert.deepEqual(await limits.take("c", minute), { allowed: true, type: "minute", limit: 1, remaining: 0, retryAfterS: 48 });
  assert.deepEqual(await limits.take("c", minute), { allowed: false, type: "minute", limit: 1, remaining: 0, retryAfterS: 48 });
  assert.equal((await limits.take("other", minute)).allowed, true, "each client has its own");
  clock.now = MIDNIGHT + 59_999;
  assert.equal((await limits.take("c", minute)).retryAfterS, 1);
  clock.now = MIDNIGHT + 60_000;
  assert.equal((await limits.take("c", minute)).allowed, true);
});

test("a refused submit counts for neither window", async () => {
  const { clock, limits } = setup();
  const both = { perMinute: 1, perDay: 2 };
  assert.equal((await limits.take("c", both)).allowed, true);
  for (let tries = 0; tries < 5; tries += 1) assert.equal((await limits.take("c", both)).type, "minute");
  clock.now += 60_000;
  assert.equal((await limits.take("c", both)).allowed, true);
  clock.now += 60_000;
  assert.deepEqual(await limits.take("c", both), { allowed: false, type: "daily", limit: 2, remaining: 0, retryAfterS: 86_400 - 120 });
  clock.now = MIDNIGHT + 86_400_000;
  assert.equal((await limits.take("c", both)).allowed, true, "a new day");
});

test("the tighter window is told; without any limit there is none to tell", async () => {
  const { limits } = setup();
  assert.partialDeepStrictEqual(await limits.take("a", { perMinute: 10, perDay: 5 }), { type: "daily", limit: 5, remaining: 4 });
  assert.partialDeepStrictEqual(await limits.take("b", { perMinute: 5, perDay: 10 }), { type: "minute", limit: 5, remaining: 4 });
  assert.partialDeepStrictEqual(await limits.take("d", { perMinute: 0, perDay: 0 }), { allowed: true, limit: null });
});

test("counters go by themselves", async () => {
  const keys = rig.namespace();
  await openRateLimits({ redis, keys }).take("c", { perMinute: 1, perDay: 1 });
  const counters = await redis.keys(`${keys.prefix}:rate:c:*`);
  assert.equal(counters.length, 2);
  for (const counter of counters) assert.ok((await redis.pttl(counter)) > 0, counter);
});
