import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openRequestIndex, type RequestIndex } from "./open-request-index.ts";

const RETENTION_MS = 60_000;

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

const open = () => openRequestIndex({ redis, keys: rig.namespace(), retentionMs: RETENTION_MS });

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
  for (const request of requests) await index.recording(request.id, "c", request.at);
  await index.recording(randomUUID(), "another", at);
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
  for (const [number, id] of ids.entries()) await index.recording(id, "c", at + number);
  const first = await index.page("c", { cursor: null, limit: 1 });
  await index.recording(randomUUID(), "c", at + 10);
  const rest = await index.page("c", { cursor: first.cursor, limit: 5 });
  assert.deepEqual([...first.ids, ...rest.ids], ids.toReversed());
  assert.equal(rest.cursor, null);
  assert.equal((await index.page("c", { cursor: "nonsense", limit: 1 })).ids.length, 1);
});

test("what is recorded and not queued is found once it is old enough, oldest first", async () => {
  const index = open();
  const [a, b, c] = [randomUUID(), randomUUID(), randomUUID()];
  await index.recording(b, "c", 2_000);
  await index.recording(a, "d", 1_000);
  await index.recording(c, "c", 3_000);
  assert.deepEqual(await index.unqueued(2_000, 10), [a, b]);
  assert.deepEqual(await index.unqueued(9_000, 1), [a]);
  await index.queued(a);
  assert.deepEqual(await index.unqueued(9_000, 10), [b, c]);
});

test("what is past its retention leaves the list", async () => {
  const index = open();
  const at = Date.now();
  const fresh = randomUUID();
  await index.recording(randomUUID(), "c", at - RETENTION_MS - 1);
  await index.recording(fresh, "c", at);
  assert.deepEqual((await index.page("c", { cursor: null, limit: 10 })).ids, [fresh]);
});
