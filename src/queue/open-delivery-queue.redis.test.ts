import assert from "node:assert/strict";
import { test } from "node:test";
import { isUnreadable } from "../protocol/stored.ts";
import { startRedisRig } from "../../test/support/redis-rig.ts";
import { ROOM } from "../../test/support/courier-rig.ts";
import { DELIVERY_QUEUE, startJobId } from "./delivery-job.ts";
import { openDeliveryQueue } from "./open-delivery-queue.ts";

test("a delivery whose data cannot be read is claimed as such, and the one behind it as ever", async () => {
  await using rig = await startRedisRig();
  const keys = rig.namespace();
  const redis = await rig.connect();
  const timing = { lockMs: 60_000, stalledIntervalMs: 60_000, retentionMs: 60_000 };
  await using queue = await openDeliveryQueue({ redis, keys, ...timing, workerName: "w1" });
  for (const [id, data] of [
    ["job-00001", '{"kind":"end"'],
    ["job-00002", '{"kind":"party","requestId":"job-00002"}'],
    ["job-00003", '{"kind":"processing","requestId":"job-00003","startedAt":null}'],
  ] as const) {
    await queue.announceStart(id, 1);
    await redis.hset(`${keys.prefix}:${DELIVERY_QUEUE}:${startJobId(id)}`, "data", data);
    const [claim] = (await queue.claim(ROOM)).claims;
    assert.ok(claim !== undefined);
    assert.equal(claim.id, startJobId(id));
    assert.ok(isUnreadable(claim.job), data);
    assert.match(claim.job.unreadable, new RegExp(startJobId(id)));
    await queue.done(claim);
  }
  await queue.announceStart("job-00004", 7);
  assert.deepEqual((await queue.claim(ROOM)).claims[0]?.job, { kind: "processing", requestId: "job-00004", startedAt: 7 });
});
