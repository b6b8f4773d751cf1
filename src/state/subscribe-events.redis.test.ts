import assert from "node:assert/strict";
import { test } from "node:test";
import type { Redis } from "ioredis";
import { lost, startRedisRig, until, within, type RedisRig } from "../../test/support/redis-rig.ts";
import type { JobEvent, JobEventDraft } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { openEmitter } from "./open-emitter.ts";
import type { Emitter } from "./state-types.ts";
import { subscribeEvents } from "./subscribe-events.ts";

const ID = "job-00001";

class EventRig implements AsyncDisposable {
  readonly abort: AbortController = new AbortController();
  readonly emitter: Emitter;
  readonly events: AsyncGenerator<JobEvent, void, undefined>;
  readonly rig: RedisRig;
  readonly keys: Keys;
  readonly redis: Redis;
  readonly subscriber: Redis;

  constructor(rig: RedisRig, parts: Pick<EventRig, "keys" | "redis" | "subscriber">) {
    this.rig = rig;
    this.keys = parts.keys;
    this.redis = parts.redis;
    this.subscriber = parts.subscriber;
    this.emitter = openEmitter({ redis: this.redis, keys: this.keys, ttlMs: 60_000 });
    const { redis, subscriber, keys } = this;
    this.events = subscribeEvents({ subscriber, redis, keys, client: "c1", id: ID, signal: this.abort.signal });
  }

  async emit(type: JobEventDraft["type"], claim: number, more: Partial<JobEventDraft> = {}): Promise<void> {
    const id = more.id ?? ID;
    const draft = { id, claim, type, progress: 0, ...more };
    await this.redis.set(this.keys.lock("m", id), "t");
    const target = { id, queue: "m", claim, client: "c1" };
    if (type === "done" || type === "error" || type === "requeued") await this.emitter.emitEnd(target, draft);
    else await this.emitter.emit({ ...target, token: "t" }, draft);
  }

  async next(): Promise<JobEvent | "ended"> {
    const { done, value } = await within("an event", this.events.next());
    return done === true ? "ended" : value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.rig[Symbol.asyncDispose]();
  }
}

async function setup(): Promise<EventRig> {
  const rig = await startRedisRig();
  return new EventRig(rig, { keys: rig.namespace(), redis: await rig.connect(), subscriber: await rig.connect("subscriber") });
}

test("the last event comes first, with its preview, then all that follow, to the end", async () => {
  await using s = await setup();
  await s.emit("processing", 1);
  await s.emit("preview", 1, { progress: 10, preview: "AAAA" });
  const first = await s.next();
  assert.ok(first !== "ended");
  assert.deepEqual({ ...first, at: 1 }, { v: 1, seq: 2, id: ID, claim: 1, at: 1, type: "preview", progress: 10, preview: "AAAA" });
  const other = { v: 1, seq: 50, id: "job-other", claim: 1, at: 1, type: "done", progress: 100 };
  await s.redis.publish(s.keys.events("c1"), JSON.stringify(other));
  await s.emit("progress", 1, { progress: 50 });
  await s.emit("done", 1, { progress: 100 });
  const rest = [await s.next(), await s.next()];
  assert.deepEqual(
    rest.map((event) => event !== "ended" && [event.seq, event.type, event.id]),
    [
      [3, "progress", ID],
      [4, "done", ID],
    ],
  );
  assert.equal(await s.next(), "ended");
  assert.equal(s.subscriber.listenerCount("message"), 0);
});

test("a request that has ended yields its end at once", async () => {
  await using s = await setup();
  await s.emit("error", 3, { errorCode: "CANCELLED" });
  const end = await s.next();
  assert.equal(end !== "ended" && end.errorCode, "CANCELLED");
  assert.equal(await s.next(), "ended");
});

test("events of older claims and events seen before are left out", async () => {
  await using s = await setup();
  await s.emit("processing", 2);
  assert.equal(((await s.next()) as JobEvent).seq, 1);
  const publish = (seq: number, claim: number): Promise<number> =>
    s.redis.publish(s.keys.events("c1"), JSON.stringify({ v: 1, seq, id: ID, claim, at: 1, type: "progress", progress: 0 }));
  await publish(1, 2);
  await publish(2, 1);
  await publish(2, 2);
  const next = (await s.next()) as JobEvent;
  assert.deepEqual([next.seq, next.claim], [2, 2]);
});

test("an abort ends it with the signal's reason: before, while it waits, and while Redis is away", async () => {
  const reason = new Error("enough");
  {
    await using s = await setup();
    s.abort.abort(reason);
    await assert.rejects(s.next(), reason);
  }
  {
    await using s = await setup();
    await s.emit("processing", 1);
    await s.next();
    const waiting = s.next();
    s.abort.abort(reason);
    await assert.rejects(waiting, reason);
    assert.equal(s.subscriber.listenerCount("message"), 0);
  }
  {
    await using s = await setup();
    await s.rig.server.kill9();
    await lost(s.subscriber);
    const waiting = s.next();
    s.abort.abort(reason);
    await assert.rejects(waiting, reason);
  }
});

test("events go on after the subscriber's connection was cut", async () => {
  await using s = await setup();
  await s.emit("processing", 1);
  await s.next();
  s.subscriber.disconnect();
  await lost(s.subscriber);
  await s.emit("progress", 1, { progress: 1 });
  await s.subscriber.connect();
  await until("the subscription", async () => Number((await s.redis.pubsub("NUMSUB", s.keys.events("c1")))[1]) === 1);
  await s.emit("progress", 1, { progress: 2 });
  assert.equal(((await s.next()) as JobEvent).progress, 2);
});
