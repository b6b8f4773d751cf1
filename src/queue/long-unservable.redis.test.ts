import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { claimed, jobData, startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";

const FORGET_MS = 60_000;
const NEVER_MS = 3_600_000;

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

test("a job is found once it has been looked at for the bound, whatever time its submitter wrote", async () => {
  const queues = await rig.queues(rig.namespace());
  await queues.add(jobData("a"), { priority: 10 });
  assert.deepEqual(await queues.longUnservable("m", { boundMs: NEVER_MS, forgetMs: FORGET_MS }), []);
  await until("job a to be found", async () => {
    const found = await queues.longUnservable("m", { boundMs: 20, forgetMs: FORGET_MS });
    return found.length === 1 && found[0] === "a";
  });
  // One that came later counts from its own first look.
  await queues.add(jobData("b"), { priority: 1 });
  assert.deepEqual(await queues.longUnservable("m", { boundMs: 20, forgetMs: FORGET_MS }), ["a"]);
});

test("a held job is remembered and not found; one that ended is forgotten", async () => {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  const redis = await rig.connect();
  await queues.add(jobData("a"), { priority: 10 });
  const look = (): Promise<readonly string[]> => queues.longUnservable("m", { boundMs: 0, forgetMs: FORGET_MS });
  assert.deepEqual(await look(), ["a"]);
  const first = await redis.zscore(keys.unservable("m"), "a");
  const claim = await claimed(queues);
  assert.deepEqual(await look(), []);
  assert.equal(await redis.zscore(keys.unservable("m"), "a"), first, "another worker may be handing it back");
  await queues.handBack(claim);
  assert.deepEqual(await look(), ["a"]);
  assert.equal(await redis.zscore(keys.unservable("m"), "a"), first);
  await queues.fail(await claimed(queues), { code: "MODEL_CORRUPT", message: "damaged" });
  assert.deepEqual(await look(), []);
  assert.equal(await redis.exists(keys.unservable("m")), 0);
});

test("a job whose delay is not over is not found", async () => {
  const queues = await rig.queues(rig.namespace());
  await queues.add(jobData("a"), { priority: 10 });
  await queues.delay(await claimed(queues), NEVER_MS);
  assert.deepEqual(await queues.longUnservable("m", { boundMs: 0, forgetMs: FORGET_MS }), []);
});

test("when nobody asks any more, it is forgotten", async () => {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  const redis = await rig.connect();
  await queues.add(jobData("a"), { priority: 10 });
  await queues.longUnservable("m", { boundMs: 0, forgetMs: 10 });
  await until("the end of the memory", async () => (await redis.exists(keys.unservable("m"))) === 0);
});
