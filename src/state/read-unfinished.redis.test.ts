import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { lost, startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { openEmitter } from "./open-emitter.ts";
import { readLive } from "./read-live.ts";
import { readUnfinished } from "./read-unfinished.ts";

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

test("requests that run and those that ended lately are found among many, in their order", async () => {
  const [redis, keys] = [await rig.connect(), rig.namespace()];
  const emitter = openEmitter({ redis, keys, ttlMs: 60_000 });
  const end = async (id: string, type: "done" | "error" | "requeued", at: number): Promise<void> => {
    await emitter.emitEnd({ id, queue: "m", claim: 1, client: "a" }, { id, claim: 1, type, progress: 0 });
    const { event } = (await readLive(redis, keys, id)) ?? {};
    await redis.hset(keys.live(id), "event", JSON.stringify({ ...event, at }));
  };
  await redis.set(keys.lock("m", "running"), "token");
  await emitter.emit(
    { id: "running", queue: "m", token: "token", claim: 1, client: "a" },
    { id: "running", claim: 1, type: "preview", progress: 1, preview: "AAAA" },
  );
  await end("requeued", "requeued", 1);
  await end("done long ago", "done", 999);
  await end("done lately", "done", 1_000);
  await end("failed lately", "error", 2_000);
  const ids = ["failed lately", "never started", "done lately", "requeued", "done long ago", "running"];
  assert.deepEqual(await readUnfinished(redis, keys, ids, 1_000), ["failed lately", "done lately", "requeued", "running"]);
  assert.deepEqual(await readUnfinished(redis, keys, [], 0), []);
});

test("an outage of Redis is no empty answer", async () => {
  const [redis, keys] = [await rig.connect("producer"), rig.namespace()];
  const gone = lost(redis);
  await rig.server.kill9();
  await gone;
  await assert.rejects(readUnfinished(redis, keys, ["a"], 0), { code: "REDIS_UNAVAILABLE" });
  await rig.restart();
});
