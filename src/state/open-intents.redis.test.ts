import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import { openIntents } from "./open-intents.ts";

const TTL_MS = 60_000;

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

const at = (
  worker: string,
  more: { readonly device?: string; readonly limit?: number; readonly ttlMs?: number; readonly model?: string } = {},
) => ({
  model: "m",
  device: "cpu:0",
  limit: 1,
  ttlMs: TTL_MS,
  worker,
  ...more,
});

/** Intents of one namespace, seen at a time that the test sets. */
function setup(): { readonly keys: Keys; readonly clock: { now: number }; readonly intents: ReturnType<typeof openIntents> } {
  const keys = rig.namespace();
  const clock = { now: Date.now() };
  return { keys, clock, intents: openIntents({ redis, keys, now: () => clock.now }) };
}

test("of 20 hosts that race for one slot exactly one gets it", async () => {
  const keys = rig.namespace();
  const hosts = await Promise.all(Array.from({ length: 20 }, async () => openIntents({ redis: await rig.connect(), keys })));
  const won = await Promise.all(hosts.map((host, index) => host.declare(at(`w${index}`))));
  assert.equal(won.filter(Boolean).length, 1);
  assert.deepEqual(await hosts[0]?.counts(["m"], "nobody"), new Map([["m", 1]]));
  const three = await Promise.all(hosts.map((host, index) => host.declare(at(`w${index}`, { limit: 3, model: "m3" }))));
  assert.equal(three.filter(Boolean).length, 3);
});

test("whoever has an intent may declare it again, however many there are", async () => {
  const { intents } = setup();
  assert.equal(await intents.declare(at("w1", { limit: 2 })), true);
  assert.equal(await intents.declare(at("w2", { limit: 2 })), true);
  assert.equal(await intents.declare(at("w1")), false, "the limit counts the others");
  assert.equal(await intents.declare(at("w1", { limit: 2 })), true);
  assert.equal(await intents.declare(at("w1", { limit: 2, device: "cpu:1" })), false, "another device is another load");
});

test("an intent that expired holds no slot and is removed", async () => {
  const { keys, clock, intents } = setup();
  assert.equal(await intents.declare(at("w1")), true);
  clock.now += TTL_MS - 1;
  assert.equal(await intents.declare(at("w2")), false);
  clock.now += 1;
  assert.deepEqual(await intents.counts(["m"], "nobody"), new Map([["m", 0]]));
  assert.equal(await intents.declare(at("w2")), true);
  assert.deepEqual(await redis.hkeys(keys.intent("m")), ["w2/cpu:0"]);
});

test("a short intent does not end the life of a long one", async () => {
  const { keys, intents } = setup();
  await intents.declare(at("w1", { limit: 2, ttlMs: 3_600_000 }));
  await intents.declare(at("w2", { limit: 2, ttlMs: 1_000 }));
  assert.ok((await redis.pttl(keys.intent("m"))) >= 3_500_000, "the key would vanish with the short one");
});

test("a withdrawal gives up one's own slot and nobody else's", async () => {
  const { intents } = setup();
  await intents.declare(at("w1"));
  await intents.withdraw(at("w2"));
  await intents.withdraw(at("w1", { device: "cpu:1" }));
  await intents.withdraw(at("w1", { model: "other" }));
  assert.equal(await intents.declare(at("w3")), false, "the slot was given up by a stranger");
  await intents.withdraw(at("w1"));
  assert.equal(await intents.declare(at("w3")), true);
});

test("counts leave out one's own intents and are per model", async () => {
  const { intents } = setup();
  await intents.declare(at("w1", { limit: 9 }));
  await intents.declare(at("w1", { limit: 9, device: "cpu:1" }));
  await intents.declare(at("w10", { limit: 9 }));
  await intents.declare(at("w10", { limit: 9, model: "b" }));
  const counts = await intents.counts(["m", "b", "none"], "w1");
  assert.deepEqual(
    [...counts],
    [
      ["m", 1],
      ["b", 1],
      ["none", 0],
    ],
  );
});
