import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import type { Keys } from "../../src/protocol/keys.ts";
import { REQUEST_VERSION, type RequestRecord } from "../../src/protocol/request.ts";
import type { Claim, Queues } from "../../src/queue/queue-types.ts";
import type { SweepDeps } from "../../src/requests/sweep-store.ts";
import { openRequests } from "../../src/state/open-requests.ts";
import { openSweepTurn } from "../../src/state/open-sweep-turn.ts";
import type { Requests } from "../../src/state/state-types.ts";
import { putBytes } from "../../src/storage/check-store.ts";
import type { ObjectStore } from "../../src/storage/object-store.ts";
import { claimed, jobData, jobResult, type RedisRig } from "./redis-rig.ts";

export const RETENTION_MS = 60_000;
/** Over the retention and its margin. */
export const LONG_AGO_MS = 2 * 3_600_000;

/** What a sweep works with, on a real Redis, and what a test fills a store with. */
export class SweepRig {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly store: ObjectStore;
  readonly queues: Queues;
  readonly requests: Requests;

  constructor(parts: { readonly redis: Redis; readonly keys: Keys; readonly store: ObjectStore; readonly queues: Queues }) {
    this.redis = parts.redis;
    this.keys = parts.keys;
    this.store = parts.store;
    this.queues = parts.queues;
    this.requests = openRequests({ redis: parts.redis, keys: parts.keys, retentionMs: 3_600_000 });
  }

  /** A sweeper of its own: each has its own holder of the lease. */
  sweeper(leaseMs = 60_000): SweepDeps {
    const { redis, keys, store, queues, requests } = this;
    return { store, queues, requests, turn: openSweepTurn({ redis, keys, leaseMs }) };
  }

  /** Ends the pause after a round. */
  async makeDue(): Promise<void> {
    await this.redis.del(this.keys.sweep.next);
  }

  async put(key: string): Promise<void> {
    await putBytes(this.store, key, Buffer.from(key), {});
  }

  async record(more: Partial<RequestRecord> = {}): Promise<string> {
    const id = randomUUID();
    await this.requests.create({
      ...jobData(id),
      v: REQUEST_VERSION,
      queue: "m",
      priority: 10,
      webhookUrl: null,
      webhookSecretRef: null,
      createdAt: Date.now(),
      startedAt: null,
      cancelledAt: null,
      ...more,
      id,
    });
    return id;
  }

  async queued(): Promise<string> {
    const id = await this.record();
    await this.queues.add(jobData(id), { priority: 10 });
    return id;
  }

  /** The only waiting job, held. */
  async running(): Promise<{ readonly id: string; readonly claim: Claim }> {
    const id = await this.queued();
    return { id, claim: await claimed(this.queues) };
  }

  async completes(claim: Claim, key: string): Promise<void> {
    const file = { name: "image.png", role: "main" as const, contentType: "image/png", sizeBytes: 1, sha256: "0".repeat(64), key };
    await this.queues.complete(claim, { ...jobResult(claim.claim), files: [file] });
  }

  async keysIn(store: ObjectStore = this.store): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const { key } of store.list("")) if (!key.startsWith("systems/")) found.push(key);
    return found;
  }
}

export async function openSweepRig(redisRig: RedisRig, store: ObjectStore): Promise<SweepRig> {
  const keys = redisRig.namespace();
  return new SweepRig({ redis: await redisRig.connect(), keys, store, queues: await redisRig.queues(keys) });
}

/** Everything that may lie in a store, live and left over. `age` makes objects old by the store's clock. */
export async function fillStore(
  rig: SweepRig,
  age: (keys: readonly string[]) => Promise<void>,
): Promise<{ readonly stays: readonly string[]; readonly goes: readonly string[] }> {
  const stays: string[] = [];
  const goes: string[] = [];
  const old: string[] = [];
  const put = async (list: string[], ...keys: readonly string[]): Promise<void> => {
    for (const key of keys) await rig.put(key);
    list.push(...keys);
  };

  const done = await rig.running();
  await rig.queues.handBack(done.claim);
  const second = await claimed(rig.queues);
  await rig.completes(second, `outputs/${done.id}/2/image.png`);
  await put(stays, `outputs/${done.id}/2/image.png`);
  // Of a claim that lost its lock and went on, and inputs whose retries are over.
  await put(goes, `outputs/${done.id}/1/image.png`, `inputs/${done.id}/0.png`);

  const failed = await rig.running();
  await rig.queues.fail(failed.claim, { code: "POISON_JOB", message: "twice" });
  await put(goes, `inputs/${failed.id}/0.png`, `outputs/${failed.id}/1/image.png`);

  const cancelledLate = await rig.running();
  // Redis' clock need not have moved on since: the mark is set before the end by its number, too.
  await rig.redis.hset(rig.keys.request(cancelledLate.id), "cancelled_at", Date.now() - 3_600_000);
  await rig.completes(cancelledLate.claim, `outputs/${cancelledLate.id}/1/image.png`);
  await put(goes, `outputs/${cancelledLate.id}/1/image.png`, `inputs/${cancelledLate.id}/0.png`);

  const cancelled = await rig.queued();
  await rig.requests.markCancelled(cancelled);
  await rig.queues.removeQueued("m", cancelled);
  await put(goes, `inputs/${cancelled}/0.png`);

  // Cancelled a moment ago: its worker still holds the job, and is uploading.
  const ending = await rig.running();
  await rig.requests.markCancelled(ending.id);
  await put(stays, `inputs/${ending.id}/0.png`, `outputs/${ending.id}/1/image.png`);

  const running = await rig.running();
  const waiting = await rig.queued();
  const unqueued = await rig.record();
  const live = [`inputs/${running.id}/0.png`, `outputs/${running.id}/1/image.png`, `inputs/${waiting}/0.png`, `inputs/${unqueued}/0.png`];
  await put(stays, ...live);
  old.push(...live);

  const newer = await rig.record({ v: REQUEST_VERSION + 1 });
  await put(stays, `inputs/${newer}/0.png`, `outputs/${newer}/1/image.png`);
  old.push(`inputs/${newer}/0.png`, `outputs/${newer}/1/image.png`);

  const [submitting, crashed, past] = [randomUUID(), randomUUID(), randomUUID()];
  await put(stays, `inputs/${submitting}/0.png`, `outputs/${submitting}/1/image.png`, "checks/0123456789abcdef");
  const over = [`inputs/${crashed}/0.png`, `outputs/${past}/1/image.png`, "checks/fedcba9876543210"];
  await put(goes, ...over);
  old.push(...over);

  const foreign = ["inputs/README.txt", "outputs/by-hand/1/x.png", "backup/x.png"];
  await put(stays, ...foreign);
  old.push(...foreign);
  await age(old);
  return { stays: stays.toSorted(), goes: goes.toSorted() };
}
