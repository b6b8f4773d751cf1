import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import type { RequestRecord } from "../protocol/request.ts";
import { openRequests } from "./open-requests.ts";
import type { Requests } from "./state-types.ts";

const RETENTION_MS = 3_600_000;
const HOSTILE = [
  "",
  " ",
  "null",
  "0",
  '"quoted"',
  "back\\slash",
  "line\r\nbreak\u0000nul\u001f",
  "\u{1F469}\u200D\u{1F680} é \u202Eright to left",
  "*3\r\n$3\r\nDEL\r\n",
  "]] .. redis.call('FLUSHALL') --",
  "${1}{t1}:req:other",
  "__proto__",
  "\uD800 lone surrogate",
];

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

function setup(): { readonly keys: Keys; readonly requests: Requests } {
  const keys = rig.namespace();
  return { keys, requests: openRequests({ redis, keys, retentionMs: RETENTION_MS }) };
}

function record(id: string, more: Partial<RequestRecord> = {}): RequestRecord {
  return {
    v: 1,
    id,
    queue: "m",
    client: "c1",
    task: "txt2img",
    model: "m",
    params: {
      prompt: "a lighthouse",
      seed: 4_294_967_295,
      guidance: 3.5,
      loras: [{ name: "x", weight: -0.5 }],
      negative: null,
      tiled: false,
    },
    inputs: [{ name: "image", key: "inputs/1/a.png", contentType: "image/png", sizeBytes: 10, sha256: "ab".repeat(32) }],
    priority: 10,
    timeoutMs: 60_000,
    webhookUrl: "https://example.com/hook?a=1&b=2",
    webhookSecretRef: "secret-1",
    createdAt: 1_700_000_000_123,
    startedAt: null,
    cancelledAt: null,
    ...more,
  };
}

test("a record comes back as it was written and is kept for the retention", async () => {
  const { keys, requests } = setup();
  const full = record("req-00001", { startedAt: 5, cancelledAt: 6 });
  const bare = record("req-00002", { params: {}, inputs: [], webhookUrl: null, webhookSecretRef: null });
  for (const wanted of [full, bare]) {
    assert.equal(await requests.create(wanted), true);
    assert.deepEqual(await requests.get(wanted.id), wanted);
    const leftMs = await redis.pttl(keys.request(wanted.id));
    assert.ok(leftMs > RETENTION_MS / 2 && leftMs <= RETENTION_MS, `${leftMs} ms`);
  }
  assert.equal(await requests.get("never-was"), null);
});

test("hostile texts come back as they were written", async () => {
  const { requests } = setup();
  await requests.create(record("bystander"));
  for (const [index, text] of HOSTILE.entries()) {
    const id = `hostile-${index}`;
    const params = { prompt: text, list: [text, { [text]: text }] };
    // Client and model are stored as they stand: a half character has no UTF-8. An empty one is damage.
    const wanted = record(id, { params, ...(text.isWellFormed() && text !== "" && { client: text, model: text }) });
    assert.equal(await requests.create(wanted), true);
    assert.deepEqual(await requests.get(id), wanted, JSON.stringify(text));
  }
  assert.deepEqual(await requests.get("bystander"), record("bystander"));
});

test("a record that exists is not written again", async () => {
  const { requests } = setup();
  const results = await Promise.all(Array.from({ length: 5 }, (_, index) => requests.create(record("req-00001", { client: `c${index}` }))));
  assert.deepEqual(results, [true, false, false, false, false]);
  assert.equal((await requests.get("req-00001"))?.client, "c0");
});

test("a record of a newer version, or of none, is refused, not misread", async () => {
  const { keys, requests } = setup();
  await requests.create(record("req-00001", { v: 2 }));
  await assert.rejects(requests.get("req-00001"), { code: "RECORD_UNREADABLE", message: /version 2, .*upgrade/ });
  await requests.create(record("req-00002"));
  await redis.hset(keys.request("req-00002"), "task", "txt2smell");
  await assert.rejects(requests.get("req-00002"), { code: "RECORD_UNREADABLE", message: /task/ });
  await requests.create(record("req-00003"));
  await redis.hdel(keys.request("req-00003"), "v");
  await assert.rejects(requests.get("req-00003"), { code: "RECORD_UNREADABLE" });
});

test("the first start is the one that counts", async () => {
  const { requests } = setup();
  await requests.create(record("req-00001"));
  const starts = await Promise.all([1, 2, 3].map((at) => requests.markStarted("req-00001", at)));
  assert.deepEqual(
    starts.map(({ first }) => first),
    [true, false, false],
  );
  assert.equal((await requests.get("req-00001"))?.startedAt, 1);
  assert.deepEqual(await requests.markStarted("req-00001", 100), { first: false, elapsedMs: 99 });
  assert.deepEqual(await requests.markStarted("req-00001", 0), { first: false, elapsedMs: 0 }, "a clock that was set back");
  assert.deepEqual(await requests.markStarted("never-was", 1), { first: false, elapsedMs: 0 });
  assert.equal(await requests.get("never-was"), null, "a mark made a record");
});

test("the first cancel is the one that counts, and of several requests the cancelled ones are found", async () => {
  const { keys, requests } = setup();
  for (const id of ["req-00001", "req-00002", "req-00003"]) await requests.create(record(id));
  assert.equal(await requests.markCancelled("req-00002"), true);
  const first = (await requests.get("req-00002"))?.cancelledAt;
  await redis.hset(keys.request("req-00002"), "cancelled_at", "7");
  assert.equal(await requests.markCancelled("req-00002"), true);
  assert.equal((await requests.get("req-00002"))?.cancelledAt, 7);
  assert.ok(Math.abs((first ?? 0) - (await requests.now())) < 60_000, "it is of the clock of all records");
  assert.equal(await requests.markCancelled("never-was"), false);
  // As if written by a version that leaves empty fields out.
  await redis.hdel(keys.request("req-00003"), "cancelled_at");
  assert.equal(await requests.markCancelled("req-00003"), true);
  assert.deepEqual([...(await requests.cancelledAmong(["req-00001", "req-00002", "req-00003", "never-was"]))], ["req-00002", "req-00003"]);
  assert.equal((await requests.cancelledAmong([])).size, 0);
});

test("without Redis every step says what it tried", async () => {
  await using away = await startRedisRig();
  const producer = await away.connect("producer", 300);
  const requests = openRequests({ redis: producer, keys: away.namespace(), retentionMs: RETENTION_MS });
  await requests.create(record("req-00001"));
  await away.server.kill9();
  await assert.rejects(requests.get("req-00001"), { code: "REDIS_UNAVAILABLE", message: /reading request req-00001/ });
  await assert.rejects(requests.markCancelled("req-00001"), { code: "REDIS_UNAVAILABLE", message: /cancelled_at of request req-00001/ });
  await away.restart();
  await until("the record", () => requests.get("req-00001").catch(() => null));
});
