import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig, until } from "../../test/support/redis-rig.ts";
import { openRequestIndex, type RequestIndex } from "./open-request-index.ts";
import { openRequests } from "./open-requests.ts";

const RETENTION_MS = 60_000;

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

interface Opened extends RequestIndex {
  /** As a submit does it. */
  readonly record: (id: string, client: string, at: number) => Promise<void>;
}

function open(): Opened {
  const keys = rig.namespace();
  const requests = openRequests({ redis, keys, retentionMs: RETENTION_MS });
  const fixed = { v: 1, queue: "m", task: "txt2img", model: "m", params: {}, inputs: [], priority: 10, timeoutMs: 60_000 } as const;
  const none = { webhookUrl: null, webhookSecretRef: null, startedAt: null, cancelledAt: null };
  return {
    ...openRequestIndex({ redis, keys }),
    record: async (id, client, at) => assert.equal(await requests.create({ ...fixed, ...none, id, client, createdAt: at }), true),
  };
}

async function pages(index: RequestIndex, limit: number): Promise<readonly (readonly string[])[]> {
  const found: (readonly string[])[] = [];
  for (let cursor: string | null = null; found.length < 100;) {
    const page = await index.page("c", { cursor, limit });
    found.push(page.ids);
    if (page.cursor === null) return found;
    ({ cursor } = page);
  }
  throw new Error("the pages have no end");
}

test("pages name every request once, newest first, also those of one millisecond", async () => {
  const index = open();
  const at = Date.now();
  const requests = Array.from({ length: 23 }, (_, number) => ({ id: randomUUID(), at: at + Math.floor(number / 7) }));
  for (const request of requests) await index.record(request.id, "c", request.at);
  await index.record(randomUUID(), "another", at);
  const found = await pages(index, 5);
  assert.deepEqual(
    found.map(({ length }) => length),
    [5, 5, 5, 5, 3],
  );
  assert.deepEqual(found.flat().toSorted(), requests.map(({ id }) => id).toSorted());
  const times = found.flat().map((id) => requests.find((request) => request.id === id)?.at ?? 0);
  assert.deepEqual(
    times,
    times.toSorted((a, b) => b - a),
  );
});

test("a page keeps its place when newer requests come", async () => {
  const index = open();
  const at = Date.now();
  const ids = [randomUUID(), randomUUID(), randomUUID()];
  for (const [number, id] of ids.entries()) await index.record(id, "c", at + number);
  const first = await index.page("c", { cursor: null, limit: 1 });
  await index.record(randomUUID(), "c", at + 10);
  const rest = await index.page("c", { cursor: first.cursor, limit: 5 });
  assert.deepEqual([...first.ids, ...rest.ids], ids.toReversed());
  assert.equal(rest.cursor, null);
  assert.equal((await index.page("c", { cursor: "nonsense", limit: 1 })).ids.length, 1);
});

test("what is recorded and not queued is found once it is old enough, oldest first", async () => {
  const index = open();
  const [a, b, c] = [randomUUID(), randomUUID(), randomUUID()];
  await index.record(b, "c", 2_000);
  await index.record(a, "d", 1_000);
  await index.record(c, "c", 3_000);
  assert.deepEqual(await index.unqueued(2_000, 10), [a, b]);
  assert.deepEqual(await index.unqueued(9_000, 1), [a]);
  index.queued(a);
  await until("the mark to go", async () => (await index.unqueued(9_000, 10)).length === 2);
  assert.deepEqual(await index.unqueued(9_000, 10), [b, c]);
});

test("what is past its retention leaves the list", async () => {
  const index = open();
  const at = Date.now();
  const fresh = randomUUID();
  await index.record(randomUUID(), "c", at - RETENTION_MS - 1);
  await index.record(fresh, "c", at);
  assert.deepEqual((await index.page("c", { cursor: null, limit: 10 })).ids, [fresh]);
});
