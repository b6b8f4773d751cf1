import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openClients } from "./open-clients.ts";

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

test("a client is known by its key, whatever gateway it comes to, and the key is stored nowhere", async () => {
  const keys = rig.namespace();
  const { client, key } = await openClients({ redis, keys }).add({ name: "Anna", priority: 3, ratePerMinute: 5, ratePerDay: 0 });
  assert.match(key, /^[0-9a-f]{12}\|[A-Za-z0-9_-]{40}$/);
  const elsewhere = openClients({ redis: await rig.connect("producer"), keys });
  assert.deepEqual(await elsewhere.authenticate(key), client);
  assert.partialDeepStrictEqual(client, { name: "Anna", enabled: true, priority: 3, ratePerMinute: 5, ratePerDay: 0 });
  const stored = JSON.stringify(await redis.hgetall(keys.client(client.id)));
  assert.ok(!stored.includes(key.split("|")[1] ?? "|"), "only a hash is kept");
});

test("anything but the whole key is nobody", async () => {
  const clients = openClients({ redis, keys: rig.namespace() });
  const { key } = await clients.add({ name: "A", id: "a" });
  const { key: other } = await clients.add({ name: "B", id: "b" });
  const secret = key.slice(2);
  for (const wrong of [
    "",
    "a",
    "a|",
    secret,
    `a|${secret}x`,
    `a|${secret.slice(1)}`,
    `b|${secret}`,
    `A|${secret}`,
    `a|${other.slice(2)}`,
    `*|${secret}`,
    `a||${secret}`,
  ])
    assert.equal(await clients.authenticate(wrong), null, wrong);
});

test("a rotated key is void at once, and a disabled client is nobody until it is enabled", async () => {
  const clients = openClients({ redis, keys: rig.namespace() });
  const { key } = await clients.add({ name: "A", id: "a" });
  const fresh = await clients.rotate("a");
  assert.ok(fresh !== null && fresh !== key);
  assert.equal(await clients.authenticate(key), null);
  assert.equal((await clients.authenticate(fresh))?.id, "a");
  assert.equal(await clients.setEnabled("a", false), true);
  assert.equal(await clients.authenticate(fresh), null);
  await clients.setEnabled("a", true);
  assert.equal((await clients.authenticate(fresh))?.id, "a");
  assert.deepEqual([await clients.rotate("nobody"), await clients.setEnabled("nobody", true)], [null, false]);
  assert.equal(await clients.get("nobody"), null, "nobody came into being");
});

test("an id is given once, also to two who ask at the same time", async () => {
  const keys = rig.namespace();
  const both = [openClients({ redis, keys }), openClients({ redis: await rig.connect(), keys })];
  const answers = await Promise.allSettled(both.map((clients, index) => clients.add({ name: `n${index}`, id: "same" })));
  assert.deepEqual(answers.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
  const won = answers.find((answer) => answer.status === "fulfilled")?.value;
  assert.deepEqual(await both[0]?.authenticate(won?.key ?? ""), won?.client, "the loser has changed nothing");
  await assert.rejects(async () => both[0]?.add({ name: "x", id: "Not/An Id" }), { code: "CONFIG_INVALID", message: /Not\/An Id/ });
  assert.deepEqual(
    (await both[0]?.list())?.map(({ id }) => id),
    ["same"],
  );
});
