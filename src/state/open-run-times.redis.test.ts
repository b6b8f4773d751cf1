import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openRunTimes } from "./open-run-times.ts";

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

test("the first job of a model says what its jobs take, each later one counts a fifth", async () => {
  const times = openRunTimes({ redis, keys: rig.namespace() });
  assert.equal(await times.of("m"), null);
  await times.learn("m", 1_000);
  assert.equal(await times.of("m"), 1_000);
  await times.learn("m", 2_000);
  assert.equal(await times.of("m"), 1_200);
});

test("all are read at once; what is no number is not known", async () => {
  const keys = rig.namespace();
  const times = openRunTimes({ redis, keys });
  assert.deepEqual(await times.all(), new Map());
  await times.learn("a", 500);
  await times.learn("b", 60_000);
  await redis.hset(keys.runTimes, "damaged", "soon");
  assert.deepEqual(
    await times.all(),
    new Map([
      ["a", 500],
      ["b", 60_000],
    ]),
  );
});
