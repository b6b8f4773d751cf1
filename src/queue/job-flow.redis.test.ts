import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { claimed, jobData, jobResult, startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import { DELIVERY_QUEUE, endJobId, startJobId } from "./delivery-job.ts";
import type { Queues } from "./queue-types.ts";

const ERROR = { code: "PIPELINE_FAILED", message: "the sampler gave NaN" } as const;
const ID = "request-1";

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

async function setup(): Promise<{ readonly keys: Keys; readonly queues: Queues; readonly end: () => Promise<string> }> {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  const end = async (): Promise<string> => (await queues.job(DELIVERY_QUEUE, endJobId(ID)))?.state ?? "gone";
  return { keys, queues, end };
}

test("the delivery of a job's end waits for the job and is free once it has completed", async () => {
  const { queues, end } = await setup();
  await queues.add(jobData(ID), { priority: 5, webhook: true });
  assert.equal(await end(), "waiting-children");
  assert.equal(await queues.claim(DELIVERY_QUEUE), null);
  const claim = await claimed(queues);
  assert.deepEqual([claim.priority, claim.data], [5, { ...jobData(ID), webhook: true }]);
  assert.equal(await end(), "waiting-children");
  await queues.complete(claim, jobResult(1));
  assert.equal(await end(), "waiting");
  assert.deepEqual((await claimed(queues, DELIVERY_QUEUE)).data, { kind: "end", requestId: ID });
});

test("a retry, a pass-on and a hand-back leave the delivery waiting; the final failure frees it", async () => {
  const { queues, end } = await setup();
  await queues.add(jobData(ID), { priority: 5, webhook: true });
  await queues.handBack(await claimed(queues));
  await queues.retry(await claimed(queues), ERROR, 1);
  await queues.delay(await claimedSoon(queues), 1);
  const claim = await claimedSoon(queues);
  assert.equal(await end(), "waiting-children");
  await queues.fail(claim, ERROR);
  assert.equal((await queues.job("m", ID))?.state, "failed");
  assert.equal(await end(), "waiting");
});

/** A job whose delay of a millisecond is over at the latest now. */
function claimedSoon(queues: Queues): Promise<Awaited<ReturnType<typeof claimed>>> {
  return until("the delayed job", () => queues.claim("m"));
}

test("taking a queued job out of its queue frees the delivery", async () => {
  const { queues, end } = await setup();
  await queues.add(jobData(ID), { priority: 5, webhook: true });
  assert.equal(await queues.removeQueued("m", ID), "removed");
  assert.equal(await end(), "waiting");
});

test("deliveries are claimed in the order in which their jobs ended", async () => {
  const { queues } = await setup();
  const wanted = Array.from({ length: 6 }, (_, index) => `request-${index}`);
  for (const id of wanted) await queues.add(jobData(id), { priority: 5, webhook: true });
  for (const _ of wanted) await queues.complete(await claimed(queues), jobResult(1));
  const order: string[] = [];
  for (const _ of wanted) order.push((await claimed(queues, DELIVERY_QUEUE)).id);
  assert.deepEqual(order, wanted.map(endJobId));
});

test("adding again changes nothing, whether the job waits, runs or has completed", async () => {
  const { queues, end } = await setup();
  const add = (): Promise<void> => queues.add(jobData(ID), { priority: 5, webhook: true });
  await add();
  await add();
  assert.equal((await queues.peek(["m"]))[0]?.waiting, 1);
  const claim = await claimed(queues);
  await add();
  await queues.complete(claim, jobResult(1));
  await add();
  assert.equal(await end(), "waiting");
  const delivery = await claimed(queues, DELIVERY_QUEUE);
  await add();
  await queues.complete(delivery, jobResult(1));
  await add();
  assert.deepEqual([await end(), await queues.claim("m"), await queues.claim(DELIVERY_QUEUE)], ["completed", null, null]);
});

test("the sweep of ended jobs leaves deliveries that wait alone", async () => {
  const { keys } = await setup();
  const queues = await rig.queues(keys, { retentionMs: 0 });
  await queues.add(jobData(ID), { priority: 5, webhook: true });
  await queues.complete(await claimed(queues), jobResult(1));
  await queues.sweep();
  assert.equal((await queues.job(DELIVERY_QUEUE, endJobId(ID)))?.state, "waiting");
});

test("a start is announced once however often it is told, and later ones change nothing", async () => {
  const { queues } = await setup();
  await queues.announceStart(jobData(ID), 1_000);
  await queues.announceStart(jobData(ID), 2_000);
  const claim = await claimed(queues, DELIVERY_QUEUE);
  assert.deepEqual([claim.id, claim.data], [startJobId(ID), { kind: "processing", requestId: ID, startedAt: 1_000 }]);
  await queues.complete(claim, jobResult(1));
  await queues.announceStart(jobData(ID), 3_000);
  assert.equal(await queues.claim(DELIVERY_QUEUE), null);
});
