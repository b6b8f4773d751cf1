import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startMonitor } from "../../test/support/redis-monitor.ts";
import { claimed, jobData, jobResult, startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import type { Queues } from "./queue-types.ts";

const ERROR = { code: "PIPELINE_FAILED", message: "the sampler gave NaN" } as const;
const NAMES = ["empty", "waits", "delayed", "active", "paused", "empty-too", "recovered"];

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

interface Fleet {
  readonly keys: Keys;
  readonly queues: Queues;
}

/** Queues in all states that a look can meet. */
async function fleet(): Promise<Fleet> {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  await queues.peek(NAMES);
  let count = 0;
  const add = async (model: string): Promise<void> => {
    count += 1;
    await queues.add(jobData(`job-0000${count}`, model), { priority: count });
  };
  for (const model of ["waits", "waits", "delayed", "active", "paused", "recovered"]) await add(model);
  await queues.retry(await claimed(queues, "delayed"), ERROR, 3_600_000);
  await claimed(queues, "active");
  await redis.hset(`${keys.prefix}:paused:meta`, "paused", "1");
  const lost = await claimed(queues, "recovered");
  await redis.del(keys.lock("recovered", lost.id));
  for (let check = 0; check < 2; check += 1) {
    await redis.del(`${keys.prefix}:recovered:stalled-check`);
    await queues.recoverStalled();
  }
  return { keys, queues };
}

async function eventsOf({ keys }: Fleet): Promise<readonly number[]> {
  return Promise.all(NAMES.map((name) => redis.xlen(keys.queueEvents(name))));
}

test("one look at many queues says of each what a look at it alone says, in the order asked for", async () => {
  const { queues } = await fleet();
  const alone = [];
  for (const name of NAMES) alone.push(...(await queues.peek([name])));
  const together = await queues.peek(NAMES);
  const timeless = (peeks: typeof together): unknown => peeks.map((peek) => ({ ...peek, dueInMs: peek.dueInMs === null ? null : "later" }));
  assert.deepEqual(timeless(together), timeless(alone));
  assert.deepEqual(
    together.map(({ model, waiting, paused }) => [model, waiting, paused]),
    [
      ["empty", 0, false],
      ["waits", 2, false],
      ["delayed", 0, false],
      ["active", 0, false],
      ["paused", 1, true],
      ["empty-too", 0, false],
      ["recovered", 1, false],
    ],
  );
  const [, , delayed] = together;
  assert.ok(delayed?.dueInMs !== null && delayed !== undefined && delayed.dueInMs > 0, `due in ${delayed?.dueInMs} ms`);
  assert.deepEqual(
    (await queues.peek(NAMES.toReversed())).map(({ model, waiting }) => [model, waiting]),
    together.toReversed().map(({ model, waiting }) => [model, waiting]),
  );
});

test("a look at many empty queues is one command and what it calls", async () => {
  const queues = await rig.queues(rig.namespace());
  const names = Array.from({ length: 200 }, (_, index) => `q${index}`);
  await queues.peek(names);
  const marker = rig.namespace().probe;
  using monitor = await startMonitor(rig.server.url);
  await queues.peek(names);
  await redis.get(marker);
  await until("the command after the look", () => monitor.seen.some(({ args }) => args[1] === marker));
  const look = monitor.seen.filter(({ args }) => args.some((arg) => arg.endsWith(":q199:wait")));
  assert.deepEqual(
    look.map(({ args: [name], byScript }) => [name?.toLowerCase(), byScript]),
    [
      ["evalsha", false],
      ["exists", true],
    ],
  );
});

test("the check for stalled jobs goes through queues with active jobs alone, at most once an interval over the fleet", async () => {
  const { keys, queues } = await fleet();
  const other = await rig.queues(keys, { workerName: "w2" });
  await other.peek(NAMES);
  const checked = async (): Promise<readonly string[]> => {
    const marks = await Promise.all(NAMES.map((name) => redis.exists(`${keys.prefix}:${name}:stalled-check`)));
    return NAMES.filter((_, index) => marks[index] === 1);
  };
  assert.deepEqual(await checked(), ["active", "recovered"]);
  await redis.del(`${keys.prefix}:active:stalled-check`, `${keys.prefix}:recovered:stalled-check`);
  await other.recoverStalled();
  assert.deepEqual(await checked(), ["active"], "the job that was recovered is active no more");
  await redis.del(keys.lock("active", "job-00004"));
  await queues.recoverStalled();
  assert.equal((await queues.job("active", "job-00004"))?.state, "active", "within the interval nobody checks again");
  await redis.del(`${keys.prefix}:active:stalled-check`);
  await queues.recoverStalled();
  assert.equal((await queues.job("active", "job-00004"))?.state, "waiting");
});

test("a sweep removes what ended before the retention and tells the watchers of no other queue", async () => {
  const all = await fleet();
  const { queues } = all;
  const soon = await rig.queues(all.keys, { retentionMs: 0 });
  await soon.peek(NAMES);
  const ended = await claimed(queues, "waits");
  await queues.complete(ended, jobResult(ended.claim));
  await queues.fail(await claimed(queues, "recovered"), ERROR);
  const told = await eventsOf(all);
  let removed = 0;
  await until("the retention of 0 ms", async () => {
    const count = await soon.sweep();
    removed += count;
    return removed === 2;
  });
  assert.deepEqual(
    (await eventsOf(all)).map((length, index) => length - (told[index] ?? 0)),
    NAMES.map((name) => (name === "waits" || name === "recovered" ? 1 : 0)),
  );
  assert.equal(await soon.sweep(), 0);
  assert.equal(await queues.job("waits", ended.id), null);
});
