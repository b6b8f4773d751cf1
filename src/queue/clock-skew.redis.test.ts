import assert from "node:assert/strict";
import { after, mock, test } from "node:test";
import { claimed, jobData, jobResult, startRedisRig } from "../../test/support/redis-rig.ts";
import type { Queues } from "./queue-types.ts";

const rig = await startRedisRig();
const redis = await rig.connect();
after(() => rig[Symbol.asyncDispose]());

const HOUR = 3_600_000;
const SKEWS = [20_000, -20_000, 2 * HOUR, -2 * HOUR];
const ERROR = { code: "PIPELINE_FAILED", message: "x" } as const;

/** What a host does whose clock is off by so much. */
async function skewed<T>(skewMs: number, work: () => Promise<T>): Promise<T> {
  mock.timers.enable({ apis: ["Date"], now: Date.now() + skewMs });
  try {
    return await work();
  } finally {
    mock.timers.reset();
  }
}

/** Redis' clock is this host's; how long this takes is the error that its sample can have. */
const isBetween = (at: number, from: number, to: number): boolean => {
  const errorMs = to - from + 1_000;
  return at >= from - errorMs && at <= to + errorMs;
};

async function setup(): Promise<{ readonly queues: Queues; readonly delayed: string }> {
  const keys = rig.namespace();
  return { queues: await rig.queues(keys), delayed: `${keys.prefix}:m:delayed` };
}

test("a job is dated by Redis when it is added, claimed and ended, whatever the hosts' clocks say", async () => {
  for (const skewMs of SKEWS) {
    const from = Date.now();
    const { queues } = await setup();
    await skewed(skewMs, async () => {
      await queues.add(jobData("job-00001"), { priority: 1, webhook: true });
      await queues.complete(await claimed(queues), jobResult(1));
    });
    const job = await queues.job("m", "job-00001");
    const to = Date.now();
    for (const at of [job?.addedAt, job?.processedAt, job?.finishedAt])
      assert.ok(isBetween(at ?? 0, from, to), `skew ${skewMs}: ${JSON.stringify(job)}`);
  }
});

test("a delay is as long as it was meant, for the host that sets it and for the one that claims after it", async () => {
  for (const skewMs of SKEWS) {
    const from = Date.now();
    const { queues, delayed } = await setup();
    await queues.add(jobData("job-00001"), { priority: 1 });
    await skewed(skewMs, async () => queues.retry(await claimed(queues), ERROR, HOUR));
    const { dueInMs } = (await queues.peek(["m"]))[0] ?? {};
    assert.ok(isBetween(from + (dueInMs ?? 0), from + HOUR, Date.now() + HOUR), `skew ${skewMs}: due in ${dueInMs} ms`);
    assert.equal(await skewed(skewMs, () => queues.claim("m")), null, `skew ${skewMs}: claimed an hour early`);
    await redis.zincrby(delayed, -2 * HOUR * 4_096, "job-00001");
    assert.notEqual(await skewed(skewMs, () => queues.claim("m")), null, `skew ${skewMs}: it is due and was not claimed`);
  }
});

test("a sweep by a host that is days ahead throws no result away", async () => {
  const { queues } = await setup();
  await queues.add(jobData("job-00001"), { priority: 1 });
  await queues.complete(await claimed(queues), jobResult(1));
  assert.equal(await skewed(2_000 * HOUR, () => queues.sweep()), 0);
  assert.equal((await queues.job("m", "job-00001"))?.state, "completed");
});
