import assert from "node:assert/strict";
import { test } from "node:test";
import { connectRedis } from "../state/connect-redis.ts";
import type { Keys } from "../protocol/keys.ts";
import type { Redis } from "ioredis";
import { claimed, jobData, jobResult, lost, ready, startRedisRig, until, within, type RedisRig } from "../../test/support/redis-rig.ts";
import { openQueues } from "./open-queues.ts";
import type { Queues } from "./queue-types.ts";

const AWAY = { code: "REDIS_UNAVAILABLE" };
/** What is given up by it took its time. No other wait of a test lasts so long: what rejects under it rejected for another reason. */
const LONG_MS = 3_600_000;
/** Only while Redis stands still: a slow machine answers later than that. */
const SHORT_MS = 300;

/** Every verb, on a job that this daemon holds. */
function verbs(queues: Queues, model: string): Readonly<Record<string, () => Promise<unknown>>> {
  const ref = { id: "held-0000", queue: model, token: "t", claim: 1 };
  const error = { code: "INTERNAL", message: "x" } as const;
  return {
    add: () => queues.add(jobData("added-000", model), { priority: 1 }),
    claim: () => queues.claim(model),
    renew: () => queues.renew([ref]),
    complete: () => queues.complete(ref, jobResult(1)),
    fail: () => queues.fail(ref, error),
    retry: () => queues.retry(ref, error, 1),
    delay: () => queues.delay(ref, 1),
    handBack: () => queues.handBack({ ...ref, order: 1 }),
    removeQueued: () => queues.removeQueued(model, "held-0000"),
    adopt: () => queues.adopt(ref),
    recoverStalled: () => queues.recoverStalled(),
    peek: () => queues.peek([model]),
    job: () => queues.job(model, "held-0000"),
    sweep: () => queues.sweep(),
  };
}

interface Setup {
  readonly rig: RedisRig;
  readonly keys: Keys;
  readonly redis: Redis;
  readonly queues: Queues;
}

/** No answer comes any more, and commands are given up soon. */
function freeze({ rig, redis }: Setup): void {
  redis.options.commandTimeout = SHORT_MS;
  rig.freeze();
}

function thaw({ rig, redis }: Setup): void {
  redis.options.commandTimeout = LONG_MS;
  rig.thaw();
}

async function setup(): Promise<Setup> {
  const rig = await startRedisRig();
  const redis = await rig.connect("worker", LONG_MS);
  const keys = rig.namespace();
  return { rig, keys, redis, queues: await rig.queues(keys, { redis }) };
}

test("while Redis is down every verb rejects at once, and works again on the same connection once it is back", async () => {
  const { rig, redis, queues } = await setup();
  await using _ = rig;
  await queues.add(jobData("job-00001"), { priority: 1 });
  await queues.add(jobData("job-00002"), { priority: 1 });
  const claim = await claimed(queues);
  await rig.server.kill9();
  await lost(redis);
  for (const [name, verb] of Object.entries(verbs(queues, "m"))) {
    await assert.rejects(within(name, verb()), AWAY, name);
  }
  await rig.restart();
  await ready(redis);
  assert.deepEqual(await queues.renew([claim]), [], "the lock did not survive");
  await queues.complete(claim, jobResult(1));
  assert.equal((await queues.job("m", "job-00001"))?.state, "completed");
  assert.equal((await claimed(queues)).id, "job-00002");
});

test("a queue first named while Redis is down rejects within the bound, and works once it is back", async () => {
  const { rig, redis, queues } = await setup();
  await using _ = rig;
  await rig.server.kill9();
  await lost(redis);
  redis.options.commandTimeout = SHORT_MS;
  const all = Object.entries(verbs(queues, "new"));
  await Promise.all(all.map(([name, verb]) => assert.rejects(within(name, verb()), AWAY, name)));
  redis.options.commandTimeout = LONG_MS;
  await rig.restart();
  await ready(redis);
  await queues.add(jobData("job-00001", "new"), { priority: 1 });
  assert.equal((await claimed(queues, "new")).id, "job-00001");
});

test("a queue first named while Redis is frozen rejects within the bound, and works once it answers", async () => {
  const all = await setup();
  const { rig, queues } = all;
  await using _ = rig;
  freeze(all);
  await assert.rejects(within("claim", queues.claim("new")), AWAY);
  await assert.rejects(within("peek", queues.peek(["new"])), AWAY);
  thaw(all);
  await until("an add that succeeds", () =>
    queues.add(jobData("job-00001", "new"), { priority: 1 }).then(
      () => true,
      () => false,
    ),
  );
  assert.equal((await claimed(queues, "new")).id, "job-00001");
});

test("queues opened before Redis is there work once it is", async () => {
  const { rig, keys, queues: first } = await setup();
  await using _ = rig;
  await first.add(jobData("job-00001"), { priority: 1 });
  await rig.server.kill9();
  const redis = connectRedis({ url: rig.server.url, role: "worker" });
  redis.options.commandTimeout = SHORT_MS;
  try {
    const queues = openQueues({
      redis,
      keys,
      lockMs: 60_000,
      stalledIntervalMs: 60_000,
      maxStalled: 1,
      retentionMs: 60_000,
      workerName: "w",
    });
    await assert.rejects(within("claim", queues.claim("m")), AWAY);
    redis.options.commandTimeout = LONG_MS;
    await rig.restart();
    const claim = await until("a claim", () => queues.claim("m").catch(() => null));
    assert.equal(claim.id, "job-00001");
  } finally {
    redis.disconnect();
  }
});

test("a frozen Redis is given up after the bound, and the same connection goes on when it thaws", async () => {
  const all = await setup();
  const { rig, queues } = all;
  await using _ = rig;
  await queues.add(jobData("job-00001"), { priority: 1 });
  const claim = await claimed(queues);
  freeze(all);
  await assert.rejects(within("a renewal", queues.renew([claim])), { ...AWAY, message: /Command timed out/ });
  thaw(all);
  await until("a renewal that succeeds", () =>
    queues.renew([claim]).then(
      (gone) => gone.length === 0,
      () => false,
    ),
  );
  await queues.complete(claim, jobResult(1));
});

test("a claim that was given up is not sent again after a reconnect: it would take a job that nobody runs", async () => {
  const all = await setup();
  const { rig, keys, redis, queues } = all;
  await using _ = rig;
  await queues.add(jobData("job-00001"), { priority: 1 });
  assert.notEqual(await queues.peek(["m"]), null);
  const other = await rig.queues(keys);
  freeze(all);
  await assert.rejects(within("a claim", queues.claim("m")), AWAY);
  redis.options.commandTimeout = LONG_MS;
  await rig.restart();
  await ready(redis);
  await until("an answer", () =>
    queues.peek(["m"]).then(
      () => true,
      () => false,
    ),
  );
  const view = await until("the job's view", () => other.job("m", "job-00001").catch(() => null));
  assert.deepEqual([view.state, view.claim], ["waiting", 0]);
  assert.equal((await claimed(queues)).claim, 1);
});

test("what was handed to a connection that is cut is rejected at once, not when its time is over", async () => {
  const rig = await startRedisRig();
  await using _ = rig;
  const redis = await rig.connect("worker", LONG_MS);
  const queues = await rig.queues(rig.namespace(), { redis });
  await queues.claim("m");
  rig.freeze();
  const pending = assert.rejects(queues.claim("m"), AWAY);
  await rig.server.kill9();
  await within("the rejection", pending);
});

test("a Redis that is out of memory refuses a job as one that is away does, and takes it later", async () => {
  const { rig, redis, queues } = await setup();
  await using _ = rig;
  await queues.claim("m");
  await redis.config("SET", "maxmemory", "1");
  await assert.rejects(queues.add(jobData("job-00001"), { priority: 1 }), AWAY);
  await redis.config("SET", "maxmemory", "0");
  await queues.add(jobData("job-00001"), { priority: 1 });
  assert.equal((await claimed(queues)).id, "job-00001");
});

test("queues can be closed while Redis is down, opened or not", async () => {
  const { rig, redis, queues } = await setup();
  await using _ = rig;
  await queues.claim("m");
  await rig.server.kill9();
  await lost(redis);
  redis.options.commandTimeout = SHORT_MS;
  await assert.rejects(within("a claim", queues.claim("new")), AWAY);
  await within("closing", Promise.resolve(queues[Symbol.asyncDispose]()));
});
