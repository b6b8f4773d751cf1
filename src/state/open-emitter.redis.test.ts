import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import type { JobEvent, JobEventDraft } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { openEmitter } from "./open-emitter.ts";
import { readLive } from "./read-live.ts";
import type { Emitter, EmitTarget } from "./state-types.ts";

const ID = "job-00001";
const TTL_MS = 3_600_000;

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

interface Setup {
  readonly keys: Keys;
  readonly emitter: Emitter;
  /** What a gateway hears. */
  readonly heard: readonly JobEvent[];
}

async function setup(): Promise<Setup> {
  const keys = rig.namespace();
  const heard: JobEvent[] = [];
  const subscriber = await rig.connect("subscriber");
  subscriber.on("message", (_, text: string) => heard.push(JSON.parse(text) as JobEvent));
  await subscriber.subscribe(keys.events("c1"));
  return { keys, emitter: openEmitter({ redis, keys, ttlMs: TTL_MS }), heard };
}

const target = (claim: number): EmitTarget => ({ id: ID, queue: "m", token: `token-${claim}`, claim, client: "c1" });

function draft(type: JobEventDraft["type"], claim: number, more: Partial<JobEventDraft> = {}): JobEventDraft {
  return { id: ID, claim, type, progress: 0, ...more };
}

/** As BullMQ does at a claim. */
async function lock(keys: Keys, claim: number): Promise<void> {
  await redis.set(keys.lock("m", ID), `token-${claim}`);
}

/** Resolves with all that was published so far: what is published last comes last. */
async function flushed({ keys, heard }: Setup): Promise<readonly JobEvent[]> {
  const mark = `mark-${heard.length}-${Math.random()}`;
  await redis.publish(keys.events("c1"), JSON.stringify({ id: mark }));
  await until("the last event", () => heard.some((event) => event.id === mark));
  return heard.filter((event) => event.id === ID);
}

/** Without the time, which is Redis'. */
function untimed({ at, ...event }: JobEvent): Omit<JobEvent, "at"> {
  assert.ok(Number.isInteger(at) && at > 1e12, `an event is of ${at}`);
  return event;
}

test("the holder's events are published and numbered one by one", async () => {
  const s = await setup();
  await lock(s.keys, 1);
  assert.deepEqual(await s.emitter.emit(target(1), draft("processing", 1)), { lockHeld: true, cancelled: false });
  await s.emitter.emit(target(1), draft("progress", 1, { progress: 50, stage: "denoise", step: 2, steps: 4 }));
  await s.emitter.emit(target(1), draft("progress", 1, { progress: 75 }));
  const common = { v: 1, id: ID, claim: 1 };
  assert.deepEqual((await flushed(s)).map(untimed), [
    { ...common, seq: 1, type: "processing", progress: 0 },
    { ...common, seq: 2, type: "progress", progress: 50, stage: "denoise", step: 2, steps: 4 },
    { ...common, seq: 3, type: "progress", progress: 75 },
  ]);
});

test("numbers stay one by one when events are sent without waiting, over several claims", async () => {
  const s = await setup();
  await lock(s.keys, 1);
  await Promise.all(Array.from({ length: 20 }, (_, index) => s.emitter.emit(target(1), draft("progress", 1, { progress: index }))));
  await s.emitter.emitEnd(target(1), draft("requeued", 1));
  await lock(s.keys, 2);
  await s.emitter.emit(target(2), draft("processing", 2));
  const heard = await flushed(s);
  assert.deepEqual(
    heard.map((event) => event.seq),
    Array.from({ length: 22 }, (_, index) => index + 1),
  );
  assert.deepEqual(
    heard.slice(0, 20).map((event) => event.progress),
    Array.from({ length: 20 }, (_, index) => index),
  );
});

test("events of a claim whose lock is another's or gone are neither published nor stored", async () => {
  const s = await setup();
  await lock(s.keys, 2);
  await s.emitter.emit(target(2), draft("progress", 2, { progress: 10 }));
  assert.deepEqual(await s.emitter.emit(target(1), draft("progress", 1, { progress: 90 })), { lockHeld: false, cancelled: false });
  await redis.del(s.keys.lock("m", ID));
  assert.deepEqual(await s.emitter.emit(target(2), draft("progress", 2, { progress: 95 })), { lockHeld: false, cancelled: false });
  assert.deepEqual(
    (await flushed(s)).map((event) => event.progress),
    [10],
  );
  assert.equal((await readLive(redis, s.keys, ID))?.event.progress, 10);
  assert.equal(await redis.hget(s.keys.live(ID), "seq"), "1", "a refused event took a number");
});

test("a holder learns from each event, sent or refused, that its request is cancelled", async () => {
  const s = await setup();
  await lock(s.keys, 1);
  await redis.hset(s.keys.request(ID), "cancelled_at", "");
  assert.equal((await s.emitter.emit(target(1), draft("processing", 1))).cancelled, false);
  await redis.hset(s.keys.request(ID), "cancelled_at", "123");
  assert.deepEqual(await s.emitter.emit(target(1), draft("progress", 1)), { lockHeld: true, cancelled: true });
  assert.deepEqual(await s.emitter.emit(target(9), draft("progress", 9)), { lockHeld: false, cancelled: true });
});

test("nothing of a claim is told after its end, not even another end", async () => {
  for (const type of ["done", "error"] as const) {
    const s = await setup();
    await lock(s.keys, 1);
    await s.emitter.emit(target(1), draft("progress", 1));
    await redis.del(s.keys.lock("m", ID));
    assert.equal(await s.emitter.emitEnd(target(1), draft(type, 1, { progress: 100 })), true);
    assert.equal(await s.emitter.emitEnd(target(1), draft("error", 1)), false);
    assert.equal(await s.emitter.emitEnd(target(1), draft("requeued", 1)), false);
    assert.equal((await s.emitter.emit(target(1), draft("progress", 1))).lockHeld, false);
    assert.deepEqual(
      (await flushed(s)).map((event) => [event.seq, event.type]),
      [
        [1, "progress"],
        [2, type],
      ],
    );
    assert.equal((await readLive(redis, s.keys, ID))?.event.type, type);
  }
});

test("the end of an older claim is not told once a newer one has spoken; that of a newer one is", async () => {
  const s = await setup();
  await lock(s.keys, 2);
  await s.emitter.emit(target(2), draft("processing", 2));
  assert.equal(await s.emitter.emitEnd(target(1), draft("done", 1)), false);
  assert.equal(await s.emitter.emitEnd(target(10), draft("error", 10)), true, "claim numbers are numbers, not texts");
  assert.equal(await s.emitter.emitEnd(target(9), draft("done", 9)), false);
  assert.deepEqual(
    (await flushed(s)).map((event) => event.type),
    ["processing", "error"],
  );
});

test("a job may end after it was requeued, and start anew after an end", async () => {
  const s = await setup();
  assert.equal(await s.emitter.emitEnd(target(1), draft("requeued", 1)), true);
  assert.equal(await s.emitter.emitEnd(target(1), draft("error", 1)), true);
  await lock(s.keys, 2);
  assert.equal((await s.emitter.emit(target(2), draft("processing", 2))).lockHeld, true);
  assert.equal(await s.emitter.emitEnd(target(2), draft("done", 2)), true);
});

test("the last event and the last preview are kept until their time is over", async () => {
  const s = await setup();
  assert.equal(await readLive(redis, s.keys, ID), null);
  await lock(s.keys, 1);
  await s.emitter.emit(target(1), draft("preview", 1, { progress: 20, preview: "AAAA+/==" }));
  await s.emitter.emit(target(1), draft("progress", 1, { progress: 30 }));
  const live = await readLive(redis, s.keys, ID);
  assert.ok(live !== null);
  assert.deepEqual(untimed(live.event), { v: 1, seq: 2, id: ID, claim: 1, type: "progress", progress: 30 });
  assert.equal(live.preview, "AAAA+/==");
  assert.deepEqual(
    (await flushed(s)).map((event) => event.preview),
    ["AAAA+/==", undefined],
  );
  await redis.pexpire(s.keys.live(ID), TTL_MS / 4);
  await s.emitter.emitEnd(target(1), draft("done", 1, { progress: 100 }));
  assert.equal((await readLive(redis, s.keys, ID))?.preview, null, "an end keeps no preview");
  const leftMs = await redis.pttl(s.keys.live(ID));
  assert.ok(leftMs > TTL_MS / 2 && leftMs <= TTL_MS, `${leftMs} ms`);
  await redis.pexpire(s.keys.live(ID), 1);
  await until("the end of its time", async () => (await readLive(redis, s.keys, ID)) === null);
});

test("a new claim does not show the preview of one that was lost", async () => {
  const s = await setup();
  await lock(s.keys, 1);
  await s.emitter.emit(target(1), draft("preview", 1, { preview: "AAAA" }));
  await lock(s.keys, 2);
  await s.emitter.emit(target(2), draft("processing", 2));
  assert.equal((await readLive(redis, s.keys, ID))?.preview, null);
  await s.emitter.emit(target(2), draft("preview", 2, { preview: "BBBB" }));
  await s.emitter.emit(target(2), draft("progress", 2));
  assert.equal((await readLive(redis, s.keys, ID))?.preview, "BBBB");
});

test("texts of an event survive the script that numbers it", async () => {
  const s = await setup();
  await lock(s.keys, 1);
  const stage = '"},{"seq":99\\ \n%d %1 \u{1F600} é ]]';
  await s.emitter.emit(target(1), draft("progress", 1, { stage }));
  await s.emitter.emitEnd(target(1), draft("error", 1, { errorCode: "INTERNAL", errorMessage: stage }));
  const [progress, end] = await flushed(s);
  assert.equal(progress?.stage, stage);
  assert.equal(end?.errorMessage, stage);
  assert.deepEqual((await readLive(redis, s.keys, ID))?.event, end);
});

test("a server that has forgotten the scripts gets them again", async () => {
  const s = await setup();
  await lock(s.keys, 1);
  await s.emitter.emit(target(1), draft("processing", 1));
  await redis.script("FLUSH");
  assert.equal((await s.emitter.emit(target(1), draft("progress", 1))).lockHeld, true);
  await redis.script("FLUSH");
  assert.equal(await s.emitter.emitEnd(target(1), draft("done", 1)), true);
  assert.equal((await flushed(s)).length, 3);
});
