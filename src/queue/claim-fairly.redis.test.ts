import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import { LanesUnderWay } from "./lanes-under-way.ts";
import type { ClaimRoom, Lane } from "./claim-fairly.ts";
import { DELIVERY_QUEUE, startJobId } from "./delivery-job.ts";
import { openDeliveryQueue, type DeliveryClaim, type DeliveryQueue, type DueDeliveries } from "./open-delivery-queue.ts";

const rig = await startRedisRig();
const redis = await rig.connect();
after(() => rig[Symbol.asyncDispose]());

const TIMING = { lockMs: 60_000, stalledIntervalMs: 60_000, retentionMs: 60_000 };
const originOf = (client: string, number: number): string => `https://${client}-${number}.test`;

/** A courier's share of the queue, without the deliveries themselves. */
interface Share extends AsyncDisposable {
  readonly queue: DeliveryQueue;
  claim(room?: Partial<ClaimRoom>): Promise<readonly DeliveryClaim[]>;
  end(claim: DeliveryClaim): Promise<void>;
  /** It has ended some other way. */
  left(claim: DeliveryClaim): void;
}

function shareOf(queue: DeliveryQueue, places: number): Share {
  const lanes = new LanesUnderWay();
  const leave = new Map<string, () => void>();
  const left = ({ token }: DeliveryClaim): void => {
    leave.get(token)?.();
    leave.delete(token);
  };
  return {
    queue,
    left,
    claim: async (room = {}) => {
      const claimed: DeliveryClaim[] = [];
      for (let due: DueDeliveries | null = null; due === null || (due.more && due.claims.length === 0);) {
        due = await queue.claim({ most: 1_000, places, placesAtOrigin: 32, held: lanes.counts(), ...room });
        claimed.push(...due.claims);
      }
      for (const claim of claimed) leave.set(claim.token, lanes.enter(claim.lane));
      return claimed;
    },
    end: async (claim) => {
      await queue.done(claim);
      left(claim);
    },
    [Symbol.asyncDispose]: async () => {
      await queue[Symbol.asyncDispose]();
    },
  };
}

class World implements AsyncDisposable {
  readonly keys: Keys = rig.namespace();
  readonly #shares: Share[] = [];

  async courier(places: number = 1_000): Promise<Share> {
    const share = shareOf(await openDeliveryQueue({ redis: await rig.connect(), keys: this.keys, ...TIMING, workerName: "w" }), places);
    this.#shares.push(share);
    return share;
  }

  key(name: string): string {
    return `${this.keys.prefix}:${DELIVERY_QUEUE}:${name}`;
  }

  /** Records and due deliveries of a client, to origins of their own or all to one. */
  async add(client: string, count: number, options: { readonly from?: number; readonly origin?: string } = {}): Promise<readonly string[]> {
    const [share] = this.#shares;
    assert.ok(share !== undefined);
    const ids = Array.from({ length: count }, (_, index) => `${client}-${(options.from ?? 0) + index}`);
    for (const [index, id] of ids.entries()) {
      await record(redis, this.keys, id, { client, origin: options.origin ?? originOf(client, index) });
      await share.queue.announceStart(id, 1);
    }
    return ids.map(startJobId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#shares.map((share) => share[Symbol.asyncDispose]()));
  }
}

async function record(client: Redis, keys: Keys, id: string, lane: Lane): Promise<void> {
  await client.hset(keys.request(id), { client: lane.client, webhook_url: `${lane.origin}/hook` });
}

const idsOf = (claims: readonly DeliveryClaim[]): readonly string[] => claims.map(({ id }) => id);
const clientsOf = (claims: readonly DeliveryClaim[]): string => claims.map(({ lane }) => lane.client).join("");

test("a client with one delivery is served at once beside one with a thousand that came first", async () => {
  await using world = new World();
  const courier = await world.courier();
  await world.add("a", 1_000, { origin: "https://a.test" });
  await world.add("b", 1);
  // A call puts 250 into lanes, so the fifth sees b's.
  const clients: string[] = [];
  for (let call = 0; call < 5; call += 1) clients.push(clientsOf(await courier.claim({ most: 2 })));
  assert.deepEqual(clients, ["aa", "aa", "aa", "aa", "ab"]);
});

test("claims go round the clients, and within a client round its origins; each lane is first in, first out", async () => {
  await using world = new World();
  const courier = await world.courier();
  const a = await world.add("a", 4);
  await world.add("a", 2, { from: 4, origin: originOf("a", 0) });
  const b = await world.add("b", 2, { origin: "https://b.test" });
  const c = await world.add("c", 1);
  assert.deepEqual(idsOf(await courier.claim({ most: 4 })), [a[0], b[0], c[0], a[1]]);
  assert.deepEqual(idsOf(await courier.claim({ most: 9 })), [b[1], a[2], a[3], startJobId("a-4"), startJobId("a-5")]);
});

test("a client gets a place while it has fewer than are free: k whose receivers hang leave 1/(k+1) of all free", async () => {
  await using world = new World();
  const courier = await world.courier(60);
  await world.add("a", 100);
  assert.equal((await courier.claim()).length, 30, "a alone: half of 60");
  await world.add("b", 100);
  assert.equal(clientsOf(await courier.claim()), "b".repeat(15));
  await world.add("c", 100);
  const c = await courier.claim();
  assert.equal(clientsOf(c), "c".repeat(8));
  // Seven are free now, and the next client gets one at once.
  await world.add("d", 1);
  assert.equal(clientsOf(await courier.claim()), "d");
  // A place that c gives back is for none of those that have as many as are free, and for the next that comes.
  const [first] = c;
  assert.ok(first !== undefined);
  await courier.end(first);
  assert.equal(clientsOf(await courier.claim()), "");
  await world.add("e", 1);
  assert.equal(clientsOf(await courier.claim()), "e");
});

test("one client has 16 at an origin, and others that use it still get in", async () => {
  await using world = new World();
  const courier = await world.courier();
  const shared = { origin: "https://hooks.test" };
  await world.add("a", 100, shared);
  assert.equal((await courier.claim()).length, 16);
  await world.add("b", 100, shared);
  assert.equal(clientsOf(await courier.claim()), "b".repeat(8));
  await world.add("c", 1, shared);
  await world.add("a", 1, { from: 100, origin: "https://another.test" });
  assert.deepEqual(idsOf(await courier.claim()).toSorted(), [startJobId("a-100"), startJobId("c-0")]);
});

test("what finds no room stays where it is: claims for it write nothing but the last turn", async () => {
  await using world = new World();
  const courier = await world.courier(20);
  await world.add("a", 100);
  await courier.claim();
  const dump = async (): Promise<unknown> => {
    const names = (await redis.keys(`${world.keys.prefix}:*`)).filter((name) => name !== world.keys.lanes.turns).toSorted();
    return Promise.all(names.map(async (name) => [name, await redis.dumpBuffer(name)]));
  };
  const before = await dump();
  for (let look = 0; look < 3; look += 1) assert.deepEqual(await courier.claim(), []);
  assert.deepEqual(await dump(), before);
});

test("a claim looks as BullMQ's own does, and ends by its verbs", async () => {
  await using world = new World();
  const courier = await world.courier();
  const queues = await rig.queues(world.keys);
  const fields = async (id: string): Promise<unknown> => {
    const { processedOn, data: _data, timestamp: _timestamp, opts: _opts, ...rest } = await redis.hgetall(world.key(id));
    assert.ok(Math.abs(Number(processedOn) - Date.now()) < 120_000);
    return { ...rest, state: (await queues.job(DELIVERY_QUEUE, id))?.state, lock: (await redis.pttl(world.key(`${id}:lock`))) > 0, pb: "" };
  };
  const [ours] = await world.add("a", 1);
  const [claim] = await courier.claim();
  assert.ok(ours !== undefined && claim?.id === ours);
  const [theirs] = await world.add("b", 1);
  const old = await queues.claim(DELIVERY_QUEUE);
  assert.ok(theirs !== undefined && old?.id === theirs);
  assert.deepEqual(await fields(ours), await fields(theirs));
  assert.deepEqual(await courier.queue.renew([claim]), []);
  await courier.end(claim);
  assert.equal((await queues.job(DELIVERY_QUEUE, ours))?.state, "completed");
});

test("what was handed back, or left by a courier that died, comes before the rest of its lane", async () => {
  await using world = new World();
  const courier = await world.courier();
  const [first, second, third, fourth] = await world.add("a", 4, { origin: "https://a.test" });
  const claims = await courier.claim({ most: 3 });
  const [one, two, three] = claims;
  assert.ok(one !== undefined && two !== undefined && three !== undefined);
  await courier.queue.handBack(two);
  await courier.queue.handBack(one);
  await redis.del(world.key(`${three.id}:lock`));
  for (const claim of claims) courier.left(claim);
  // BullMQ marks in one check what it takes back in the next.
  for (let check = 0; check < 2; check += 1) {
    await redis.del(world.key("stalled-check"));
    await courier.queue.recoverStalled();
  }
  const again = idsOf(await courier.claim());
  assert.deepEqual(again.slice(0, 3).toSorted(), [first, second, third].toSorted());
  assert.deepEqual(
    again.filter((id) => id === first || id === second),
    [first, second],
  );
  assert.equal(again[3], fourth);
});

test("a courier of an older version takes what is in lanes, and a lane forgets what is gone", async () => {
  await using world = new World();
  const courier = await world.courier();
  const queues = await rig.queues(world.keys);
  const ids = await world.add("a", 4, { origin: "https://a.test" });
  assert.deepEqual(await courier.claim({ most: 0 }), []);
  const old = await queues.claim(DELIVERY_QUEUE);
  assert.equal(old?.id, ids[0]);
  assert.equal(await queues.removeQueued(DELIVERY_QUEUE, ids[1] ?? ""), "removed");
  assert.deepEqual(idsOf(await courier.claim()), [ids[2], ids[3]]);
  assert.deepEqual(await redis.keys(`${world.keys.lanes.prefix}*`), [world.keys.lanes.turns]);
});

test("lanes that were lost are made anew from the queue", async () => {
  await using world = new World();
  const courier = await world.courier();
  const ids = await world.add("a", 3);
  await courier.claim({ most: 0 });
  await redis.del(...(await redis.keys(`${world.keys.lanes.prefix}*`)));
  assert.deepEqual(idsOf(await courier.claim()), ids);
});

test("deliveries whose record is gone, of another type or without a URL are claimed as well", async () => {
  await using world = new World();
  const courier = await world.courier();
  const ids = await world.add("a", 4);
  await redis.del(world.keys.request("a-0"));
  await redis.del(world.keys.request("a-1"));
  await redis.set(world.keys.request("a-1"), "no hash");
  await redis.hdel(world.keys.request("a-2"), "webhook_url");
  await redis.hset(world.key(ids[3] ?? ""), "data", '{"requestId":[1]');
  const claims = await courier.claim();
  assert.deepEqual(idsOf(claims).toSorted(), [...ids].toSorted());
  assert.deepEqual(claims.map(({ lane }) => `${lane.client}|${lane.origin}`).toSorted(), ["a|", "|", "|", "|"].toSorted());
});

test("a paused queue gives nothing until it goes on", async () => {
  await using world = new World();
  const courier = await world.courier();
  await world.add("a", 1);
  await redis.hset(world.key("meta"), "paused", 1);
  assert.deepEqual(await courier.claim(), []);
  await redis.hdel(world.key("meta"), "paused");
  assert.equal((await courier.claim()).length, 1);
});

test("couriers at work together claim everything once, whatever each does with it", async () => {
  await using world = new World();
  const couriers = await Promise.all([world.courier(16), world.courier(16), world.courier(16)]);
  const ids = (
    await Promise.all(["a", "b", "c"].map((client, index) => world.add(client, 60, index === 0 ? { origin: "https://a.test" } : {})))
  ).flat();
  const done: string[] = [];
  const tries = new Map<string, number>();
  const work = async (courier: Share): Promise<void> => {
    while (done.length < ids.length) {
      for (const claim of await courier.claim({ most: 5 })) {
        const number = (tries.get(claim.id) ?? 0) + 1;
        tries.set(claim.id, number);
        // By its id, so that a failing run fails again.
        const fate = (Number(/-(\d+)\./.exec(claim.id)?.[1]) + number) % 4;
        if (fate === 1 && number < 3) await courier.queue.handBack(claim);
        else if (fate === 2 && number < 3) await courier.queue.retry(claim, { reason: "x", waitMs: 1, attempt: claim.attempt + 1 });
        else if (fate === 3 && number < 3) await courier.queue.postpone(claim, 1);
        else {
          await courier.queue.done(claim);
          done.push(claim.id);
        }
        courier.left(claim);
      }
    }
  };
  await Promise.all(couriers.map(work));
  assert.deepEqual(done.toSorted(), [...ids].toSorted());
  assert.deepEqual(await redis.keys(`${world.keys.lanes.prefix}*`), [world.keys.lanes.turns]);
});
