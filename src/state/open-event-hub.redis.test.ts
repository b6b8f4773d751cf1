import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { lost, startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import { EVENT_VERSION, type JobEvent } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { openEventHub, type EventHub, type EventListener } from "./open-event-hub.ts";

let rig: RedisRig;
before(async () => {
  rig = await startRedisRig();
});
after(() => rig[Symbol.asyncDispose]());

async function open(
  options: { readonly heartbeatMs?: number } = {},
): Promise<{ readonly keys: Keys; readonly subscriber: Redis; readonly redis: Redis; readonly hub: EventHub }> {
  const [keys, subscriber, redis] = [rig.namespace(), await rig.connect("subscriber"), await rig.connect()];
  return { keys, subscriber, redis, hub: openEventHub({ subscriber, keys, ...options }) };
}

function collect(): EventListener & { readonly seen: string[] } {
  const seen: string[] = [];
  return { seen, onEvent: ({ id, seq }) => seen.push(`${id} ${seq}`), onGap: () => seen.push("gap") };
}

function event(id: string, seq: number, claim = 1, type: JobEvent["type"] = "progress"): string {
  return JSON.stringify({ v: EVENT_VERSION, id, seq, claim, type, at: 1, progress: 0 } satisfies JobEvent);
}

async function subscribers(redis: Redis, channel: string): Promise<number> {
  const [, count] = await redis.pubsub("NUMSUB", channel);
  return Number(count);
}

test("a client is subscribed to while somebody listens, once for all listeners", async () => {
  const { keys, redis, hub } = await open();
  const [one, two] = [collect(), collect()];
  assert.equal(await subscribers(redis, keys.events("a")), 0);
  const first = hub.listen("a", one);
  const second = hub.listen("a", two);
  await Promise.all([first.active, second.active]);
  assert.equal(await subscribers(redis, keys.events("a")), 1);
  await redis.publish(keys.events("a"), event("x", 1));
  await until("both to hear", () => one.seen.length + two.seen.length === 2);
  first.end();
  await redis.publish(keys.events("a"), event("x", 2));
  await until("the other to hear", () => two.seen.length === 2);
  assert.deepEqual(one.seen, ["x 1"]);
  second.end();
  second.end();
  await until("the end of the subscription", async () => (await subscribers(redis, keys.events("a"))) === 0);
  const again = collect();
  await hub.listen("a", again).active;
  await redis.publish(keys.events("a"), event("x", 3));
  await until("an event after listening again", () => again.seen.length === 1);
});

test("events of an older claim, twice told ones and what is no event are not passed on", async () => {
  const { keys, redis, hub } = await open();
  const listener = collect();
  await hub.listen("a", listener).active;
  const texts = ["", "null", "{}", '{"v":99}', event("x", 3, 2), event("x", 3, 2), event("x", 4, 1), event("y", 1)];
  for (const text of texts) await redis.publish(keys.events("a"), text);
  await until("the last event", () => listener.seen.at(-1) === "y 1");
  assert.deepEqual(listener.seen, ["x 3", "y 1"]);
});

test("after an outage events come again, and the gap is told first", async () => {
  const { keys, subscriber, redis, hub } = await open();
  const [listener, late] = [collect(), collect()];
  const listening = hub.listen("a", listener);
  await listening.active;
  const gone = lost(subscriber);
  await rig.server.kill9();
  await gone;
  // Listened to during the outage: active when Redis is back.
  const { active } = hub.listen("b", late);
  await rig.restart();
  await active;
  await until("the gap", () => listener.seen.includes("gap"));
  await redis.publish(keys.events("a"), event("x", 1)).catch(() => redis.publish(keys.events("a"), event("x", 1)));
  await until("an event", () => listener.seen.includes("x 1"));
  await redis.publish(keys.events("b"), event("z", 1));
  await until("the late one's event", () => late.seen.includes("z 1"));
  assert.deepEqual(listener.seen, ["gap", "x 1"]);
});

test("a connection that hangs is noticed, and what was missed in it", async () => {
  const { keys, subscriber, redis, hub } = await open({ heartbeatMs: 20 });
  const listener = collect();
  await hub.listen("a", listener).active;
  const gone = lost(subscriber);
  rig.freeze();
  await gone.finally(() => rig.thaw());
  await until("the gap", () => listener.seen.includes("gap"));
  // With such a heartbeat a slow machine passes for a connection that hangs now and then: what is told meanwhile is missed.
  let seq = 0;
  await until("an event", async () => {
    seq += 1;
    await redis.publish(keys.events("a"), event("x", seq));
    return listener.seen.some((seen) => seen.startsWith("x "));
  });
});
