import assert from "node:assert/strict";
import { test } from "node:test";
import type { Redis } from "ioredis";
import { lost, ready, startRedisRig, until, within, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import { openCancelChannel } from "./open-cancel-channel.ts";
import { openRequests } from "./open-requests.ts";
import type { CancelChannel, Requests } from "./state-types.ts";

/** A worker that listens, and a client that cancels. */
class CancelRig implements AsyncDisposable {
  readonly heard: string[] = [];
  readonly abort: AbortController = new AbortController();
  readonly requests: Requests;
  readonly channel: CancelChannel;
  readonly listening: Promise<void>;
  readonly rig: RedisRig;
  readonly keys: Keys;
  readonly redis: Redis;
  readonly subscriber: Redis;

  constructor(rig: RedisRig, parts: Pick<CancelRig, "keys" | "redis" | "subscriber">) {
    this.rig = rig;
    this.keys = parts.keys;
    this.redis = parts.redis;
    this.subscriber = parts.subscriber;
    this.requests = openRequests({ redis: this.redis, keys: this.keys, retentionMs: 60_000 });
    this.channel = openCancelChannel({ redis: this.redis, subscriber: this.subscriber, keys: this.keys });
    this.listening = this.channel.listen((id) => this.heard.push(id), this.abort.signal);
  }

  async subscribed(): Promise<void> {
    await until("the subscription", async () => Number((await this.redis.pubsub("NUMSUB", this.keys.cancel))[1]) === 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort.abort();
    await this.rig[Symbol.asyncDispose]();
  }
}

async function setup(): Promise<CancelRig> {
  const rig = await startRedisRig();
  const cancels = new CancelRig(rig, { keys: rig.namespace(), redis: await rig.connect(), subscriber: await rig.connect("subscriber") });
  await cancels.subscribed();
  return cancels;
}

test("nudges arrive in their order, and none from other channels", async () => {
  await using s = await setup();
  await s.subscriber.subscribe("elsewhere");
  await s.redis.publish("elsewhere", "job-00000");
  for (const id of ["job-00001", "job-00002"]) await s.channel.nudge(id);
  await until("two nudges", () => s.heard.length >= 2);
  assert.deepEqual(s.heard, ["job-00001", "job-00002"]);
});

test("a cancel of the time when the subscriber was away is found in the record, and later nudges arrive again", async () => {
  await using s = await setup();
  await s.requests.create({
    v: 1,
    id: "job-00001",
    queue: "m",
    client: "c1",
    task: "txt2img",
    model: "m",
    params: {},
    inputs: [],
    priority: 1,
    timeoutMs: 1,
    webhookUrl: null,
    webhookSecretRef: null,
    createdAt: 1,
    startedAt: null,
    cancelledAt: null,
  });
  s.subscriber.disconnect();
  await lost(s.subscriber);
  await s.requests.markCancelled("job-00001");
  await s.channel.nudge("job-00001");
  assert.deepEqual(await s.requests.cancelledAmong(["job-00001"]), new Set(["job-00001"]));
  await s.subscriber.connect();
  await s.subscribed();
  await s.channel.nudge("job-00002");
  await until("the nudge after the reconnect", () => s.heard.includes("job-00002"));
  assert.deepEqual(s.heard, ["job-00002"], "pub/sub keeps nothing: the record is the truth");
  assert.deepEqual(await s.requests.cancelledAmong(["job-00001"]), new Set(["job-00001"]));
});

test("nudges arrive after a restart of the server; while it is down a nudge is refused", async () => {
  await using s = await setup();
  await s.rig.server.kill9();
  await lost(s.redis);
  await assert.rejects(s.channel.nudge("job-00001"), { code: "REDIS_UNAVAILABLE", message: /job-00001/ });
  await s.rig.restart();
  await ready(s.redis);
  await s.subscribed();
  await s.channel.nudge("job-00002");
  await until("the nudge", () => s.heard.includes("job-00002"));
});

test("listening ends when it is aborted, before, during and after the subscription, even without a server", async () => {
  await using s = await setup();
  s.abort.abort();
  await within("the end", s.listening);
  await s.channel.nudge("job-00001");
  await within(
    "the end of one aborted before",
    s.channel.listen(() => assert.fail("called"), s.abort.signal),
  );
  await s.redis.ping();
  assert.deepEqual(s.heard, [], "called after the end");
  assert.equal(s.subscriber.listenerCount("message"), 0);

  await s.rig.server.kill9();
  await lost(s.subscriber);
  const stop = new AbortController();
  const waiting = s.channel.listen(() => undefined, stop.signal);
  stop.abort();
  await within("the end of one that waits for Redis", waiting);
});
