import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import { openLease } from "./open-lease.ts";

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

test("one holder has a lease at a time, until it gives it back or lets it run out", async () => {
  const redis = await rig.connect();
  const [a, b] = ["a", "b"].map((holder) => openLease({ redis, key: "lease", holder, ttlMs: 60_000 })) as [
    ReturnType<typeof openLease>,
    ReturnType<typeof openLease>,
  ];
  assert.deepEqual([await a.hold(), await b.hold(), await a.hold()], [true, false, true]);
  await b.release();
  assert.equal(await b.hold(), false, "nobody gives back what another holds");
  await a.release();
  assert.equal(await b.hold(), true);
  const short = openLease({ redis, key: "short", holder: "a", ttlMs: 50 });
  assert.equal(await short.hold(), true);
  await until("the end of the lease", () => openLease({ redis, key: "short", holder: "b", ttlMs: 60_000 }).hold());
  assert.equal(await short.hold(), false);
});
