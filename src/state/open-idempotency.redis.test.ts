import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openIdempotency } from "./open-idempotency.ts";

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

const claim = (change: Readonly<Record<string, string>> = {}) => ({ client: "c", key: "k", fingerprint: "f", requestId: "r1", ...change });

test("of many with one key exactly one is the first, and all get its id", async () => {
  const keys = rig.namespace();
  const gateways = await Promise.all([1, 2].map(async () => openIdempotency({ redis: await rig.connect("producer"), keys })));
  const answers = await Promise.all(
    gateways.flatMap((gateway, at) => Array.from({ length: 10 }, (_, index) => gateway.claim(claim({ requestId: `r${at}-${index}` })))),
  );
  assert.equal(answers.filter(({ kind }) => kind === "new").length, 1);
  const ids = new Set(answers.flatMap((answer) => (answer.kind === "same" ? [answer.requestId] : [])));
  assert.equal(ids.size, 1);
});

test("the same key with other content is a conflict; another client's key is another key", async () => {
  const idempotency = openIdempotency({ redis, keys: rig.namespace() });
  assert.deepEqual(await idempotency.claim(claim()), { kind: "new" });
  assert.deepEqual(await idempotency.claim(claim({ requestId: "r2" })), { kind: "same", requestId: "r1" });
  assert.deepEqual(await idempotency.claim(claim({ fingerprint: "g" })), { kind: "conflict" });
  assert.deepEqual(await idempotency.claim(claim({ client: "d", fingerprint: "g" })), { kind: "new" });
});

test("a key is released by whom it stands for alone", async () => {
  const idempotency = openIdempotency({ redis, keys: rig.namespace() });
  await idempotency.claim(claim());
  await idempotency.release(claim({ requestId: "r2" }));
  assert.equal((await idempotency.claim(claim())).kind, "same");
  await idempotency.release(claim());
  assert.deepEqual(await idempotency.claim(claim({ fingerprint: "g" })), { kind: "new" });
});

test("a key is remembered for 24 hours, under a digest of itself", async () => {
  const keys = rig.namespace();
  await openIdempotency({ redis, keys }).claim(claim({ key: "a key:* with\nanything" }));
  const [entry = "", ...more] = await redis.keys(`${keys.prefix}:idem:*`);
  assert.deepEqual(more, []);
  assert.match(entry, /:idem:c:[0-9a-f]{64}$/);
  const ttlMs = await redis.pttl(entry);
  assert.ok(ttlMs > 86_400_000 - 60_000 && ttlMs <= 86_400_000, String(ttlMs));
});
