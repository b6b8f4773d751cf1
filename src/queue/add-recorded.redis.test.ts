import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { RedisStep } from "../lib/redis-step.ts";
import { AppError } from "../protocol/error.ts";
import { jobData, startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

const PRIORITY = { priority: 10 };
const setting = (key: string, value: string): RedisStep => ({
  lua: "return redis.call('SET', KEYS[1], ARGV[1])",
  keys: [key],
  args: [value],
});

test("a step and the job are one transaction: many at once on one connection stay apart, and each is seen whole", async () => {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  const redis = await rig.connect();
  const ids = Array.from({ length: 50 }, (_, index) => `job-${index}`);
  const added = ids.map((id) => queues.addRecorded(setting(`${keys.prefix}:step:${id}`, id), jobData(id), PRIORITY));
  const beside = ids.map((id) => queues.add(jobData(`other-${id}`), PRIORITY));
  assert.deepEqual(new Set(await Promise.all(added)), new Set([null]));
  await Promise.all(beside);
  for (const id of ids) {
    assert.equal(await redis.get(`${keys.prefix}:step:${id}`), id);
    assert.equal((await queues.job("m", id))?.state, "waiting");
  }
  assert.equal((await queues.peek(["m"]))[0]?.waiting, 100);
});

test("a server that has forgotten BullMQ's scripts gets them again", async () => {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  const redis = await rig.connect();
  await queues.add(jobData("first"), PRIORITY);
  await redis.script("FLUSH");
  assert.equal(await queues.addRecorded(setting(`${keys.prefix}:step`, "x"), jobData("second"), PRIORITY), null);
  assert.equal((await queues.job("m", "second"))?.state, "waiting");
});

test("a step that Redis refuses leaves no job; one that was done without its job says so", async () => {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  const redis = await rig.connect();
  await queues.add(jobData("known"), PRIORITY);
  const refused: RedisStep = { lua: "return redis.error_reply('OOM command not allowed')", keys: [], args: [] };
  await assert.rejects(
    queues.addRecorded(refused, jobData("never"), PRIORITY),
    (thrown) => thrown instanceof AppError && thrown.code === "REDIS_UNAVAILABLE",
  );
  assert.equal(await queues.job("m", "never"), null, "also where the job itself could be added");
  // A Redis without memory refuses the whole, also a step that would free some.
  await redis.set(`${keys.prefix}:old`, "x");
  await redis.config("SET", "maxmemory", "1");
  try {
    const frees: RedisStep = { lua: "return redis.call('DEL', KEYS[1])", keys: [`${keys.prefix}:old`], args: [] };
    await assert.rejects(queues.addRecorded(frees, jobData("later"), PRIORITY), /out of memory/);
  } finally {
    await redis.config("SET", "maxmemory", "0");
  }
  assert.equal(await redis.get(`${keys.prefix}:old`), "x");
  assert.equal(await queues.job("m", "later"), null);
  assert.equal(await queues.addRecorded(setting(`${keys.prefix}:new`, "x"), jobData("later"), PRIORITY), null);
  // Something else stands where the job's queue should be.
  const failure = await queues.addRecorded(setting(`${keys.prefix}:n:prioritized`, "no queue"), jobData("lost", "n"), PRIORITY);
  assert.ok(failure instanceof AppError && failure.code === "RECORD_UNREADABLE", String(failure));
  assert.equal(await redis.get(`${keys.prefix}:n:prioritized`), "no queue", "the step was done");
  assert.equal((await queues.job("m", "known"))?.state, "waiting");
});
