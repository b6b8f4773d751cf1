import assert from "node:assert/strict";
import { test } from "node:test";
import { startRedisRig, within } from "../../test/support/redis-rig.ts";
import { connectRedis } from "./connect-redis.ts";

/** What ioredis was told, without a connection. */
function told(url: string): Readonly<Record<string, unknown>> {
  const redis = connectRedis({ url, role: "producer" });
  redis.disconnect();
  const { host, port, db, username, password, path, tls, sentinels, name, failoverDetector } = redis.options;
  const all = { host, port, db, username, password, path, tls, sentinels, name, failoverDetector };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined && value !== null));
}

test("every kind of address reaches ioredis as it is meant", () => {
  const base = { db: 0, failoverDetector: false };
  assert.partialDeepStrictEqual(told("redis://localhost"), { ...base, host: "localhost", port: 6379 });
  assert.partialDeepStrictEqual(told("redis://user:p%40ss%2F@10.0.0.1:7000/3"), {
    host: "10.0.0.1",
    port: 7000,
    db: 3,
    username: "user",
    password: "p@ss/",
  });
  assert.partialDeepStrictEqual(told("redis://:secret@[::1]:7000"), { host: "::1", port: 7000, password: "secret" });
  assert.partialDeepStrictEqual(told("rediss://example.com"), { host: "example.com", tls: { servername: "example.com" } });
  assert.partialDeepStrictEqual(told("unix:/tmp/a%20b.sock?db=2"), { path: "/tmp/a b.sock", db: 2 });
  assert.partialDeepStrictEqual(told("/tmp/plain.sock"), { path: "/tmp/plain.sock" });
  assert.partialDeepStrictEqual(told("redis+sentinel://u:p@a:1,b/main?db=4"), {
    sentinels: [
      { host: "a", port: 1 },
      { host: "b", port: 26_379 },
    ],
    name: "main",
    db: 4,
    username: "u",
    password: "p",
    failoverDetector: true,
  });
});

test("an address that is none is refused without a word of its password", () => {
  for (const url of ["http://user:hunter2@host", "hunter2", "redis+sentinel://user:hunter2@host", ""]) {
    assert.throws(
      () => connectRedis({ url, role: "worker" }),
      (error: Error & { readonly code?: string }) => error.code === "CONFIG_INVALID" && !error.message.includes("hunter2"),
      url,
    );
  }
});

test("the database number of an address reaches the server", async () => {
  await using rig = await startRedisRig();
  const redis = connectRedis({ url: `${rig.server.url}?db=5`, role: "worker" });
  try {
    assert.match(await within("an answer", redis.client("INFO")), / db=5 /);
  } finally {
    redis.disconnect();
  }
});

test("a producer fails fast without a server; a subscriber waits for it", async () => {
  await using rig = await startRedisRig();
  const subscriber = await rig.connect("subscriber");
  const producer = await rig.connect("producer");
  await rig.server.kill9();
  await assert.rejects(within("the producer", producer.ping()));
  const subscribed = subscriber.subscribe("channel");
  await rig.restart();
  assert.equal(await within("the subscription", subscribed), 1);
});
