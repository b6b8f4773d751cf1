import assert from "node:assert/strict";
import { test } from "node:test";
import type { Redis } from "ioredis";
import { claimed, jobData, jobResult, ready, startRedisRig, until, within, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Keys } from "../protocol/keys.ts";
import type { Queues } from "./queue-types.ts";
import { watchQueues } from "./watch-queues.ts";

/** A read that were sent again after a reconnect would block longer than any answer may take. */
const BLOCK_MS = 700;
/** Longer than any wait of a test: what ends under it did not wait for it. */
const LONG_MS = 3_600_000;

interface Times {
  readonly blockMs?: number;
  readonly hungAfterMs?: number;
}

class WatchRig implements AsyncDisposable {
  readonly woken: string[] = [];
  models: readonly string[];
  /** How often the watching connection was lost. */
  losses = 0;
  readonly #abort = new AbortController();
  readonly rig: RedisRig;
  readonly keys: Keys;
  readonly queues: Queues;
  /** Not the one that watches. */
  readonly redis: Redis;
  readonly watching: Redis;
  readonly ended: Promise<void>;

  constructor(rig: RedisRig, parts: Pick<WatchRig, "keys" | "queues" | "redis" | "watching" | "models"> & Times) {
    this.rig = rig;
    this.keys = parts.keys;
    this.queues = parts.queues;
    this.redis = parts.redis;
    this.watching = parts.watching;
    this.models = parts.models;
    this.watching.on("close", () => (this.losses += 1));
    this.ended = watchQueues({
      redis: this.watching,
      keys: this.keys,
      models: () => this.models,
      onWake: (model) => this.woken.push(model),
      signal: this.#abort.signal,
      blockMs: parts.blockMs ?? BLOCK_MS,
      hungAfterMs: parts.hungAfterMs ?? LONG_MS,
    });
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await within("the end of the watch", this.ended);
  }

  /** Does something and waits for the wake-up that must follow it. */
  async wakes(model: string, cause: () => Promise<unknown>): Promise<void> {
    const before = this.woken.length;
    await cause();
    await until(`a wake-up of ${model}`, () => this.woken.indexOf(model, before) >= 0);
  }

  async add(id: string, model: string): Promise<void> {
    await this.queues.add(jobData(id, model), { priority: 1 });
  }

  /** Resolves when the watch blocks in a read that it began after the call. */
  async reads(count: number): Promise<void> {
    const calls = async (): Promise<number> => Number(/cmdstat_xread:calls=(\d+)/.exec(await this.redis.info("commandstats"))?.[1] ?? 0);
    const blocked = async (): Promise<boolean> => /blocked_clients:1\r/.test(await this.redis.info("clients"));
    const before = await calls();
    await until(`${count} reads`, async () => (await calls()) >= before + count && (await blocked()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop();
    } finally {
      await this.rig[Symbol.asyncDispose]();
    }
  }
}

async function startWatch(
  models: readonly string[] = ["a", "b"],
  options: Times & { readonly prepare?: (redis: Redis, keys: Keys) => Promise<unknown> } = {},
): Promise<WatchRig> {
  const rig = await startRedisRig();
  const keys = rig.namespace();
  const redis = await rig.connect();
  const queues = await rig.queues(keys, { redis });
  await options.prepare?.(redis, keys);
  const watch = new WatchRig(rig, { ...options, keys, queues, redis, watching: await rig.connect("blocking"), models });
  await until("the first wake-ups", () => models.every((model) => watch.woken.includes(model)));
  if (models.length > 0) await watch.reads(0);
  return watch;
}

test("an added job wakes its queue and no other", async () => {
  await using watch = await startWatch();
  const before = watch.woken.length;
  for (const id of ["job-00001", "job-00002", "job-00003"]) await watch.wakes("a", () => watch.add(id, "a"));
  assert.deepEqual(
    watch.woken.slice(before).filter((model) => model !== "a"),
    [],
  );
  await watch.wakes("b", () => watch.add("job-00004", "b"));
});

test("a hand-back, a retry and the recovery of a stalled job wake; a claim and an end do not", async () => {
  await using watch = await startWatch();
  const { queues, redis, keys } = watch;
  await watch.wakes("a", () => watch.add("job-00001", "a"));
  await watch.reads(1);
  const calm = watch.woken.length;
  const claim = await claimed(queues, "a");
  await watch.reads(1);
  assert.equal(watch.woken.length, calm, "a claim woke");
  await watch.wakes("a", () => queues.handBack(claim));
  const again = await claimed(queues, "a");
  await watch.wakes("a", () => queues.retry(again, { code: "INTERNAL", message: "x" }, 1));
  const third = await until("the delayed job", () => queues.claim("a"));
  await redis.del(keys.lock("a", third.id));
  const sweep = async (): Promise<void> => {
    await redis.del(`${keys.prefix}:a:stalled-check`);
    await queues.recoverStalled();
  };
  await sweep();
  await watch.wakes("a", sweep);
  const last = await claimed(queues, "a");
  await watch.reads(1);
  const quiet = watch.woken.length;
  await queues.complete(last, jobResult(last.claim));
  await watch.reads(1);
  assert.ok(!watch.woken.slice(quiet).includes("b"), "an end woke another queue");
});

test("a model that is served later is watched from then on", async () => {
  await using watch = await startWatch([]);
  watch.models = ["late"];
  await watch.wakes("late", () => Promise.resolve());
  await watch.reads(0);
  await watch.wakes("late", () => watch.add("job-00001", "late"));
});

test("a reset connection costs no wake-up", async () => {
  await using watch = await startWatch();
  for (let round = 1; round <= 3; round += 1) {
    const { losses } = watch;
    await watch.wakes("a", async () => {
      await watch.redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      await watch.add(`while-away-${round}`, "a");
    });
    await ready(watch.watching);
    assert.equal(watch.losses, losses + 1);
    await watch.reads(0);
    await watch.wakes("b", () => watch.add(`afterwards-${round}`, "b"));
  }
});

test("a frozen server is noticed, and after it thaws the connection is calm and wakes again", async () => {
  await using watch = await startWatch(["a", "b"], { hungAfterMs: 250 });
  watch.rig.freeze();
  await until("the loss of the connection", () => watch.losses >= 2);
  watch.rig.thaw();
  await ready(watch.watching);
  // A slow machine may be taken for a hung server now and then, but not in every read.
  await until("three reads on one connection", async () => {
    const { losses } = watch;
    await watch.reads(3);
    return watch.losses === losses;
  });
  await watch.wakes("a", () => watch.add("job-00002", "a"));
});

test("a restarted server is watched again, on what it has kept", async () => {
  await using watch = await startWatch();
  await watch.rig.restart();
  await Promise.all([ready(watch.watching), ready(watch.redis)]);
  await watch.reads(0);
  await watch.wakes("a", () => watch.add("job-00001", "a"));
});

test("a stream that was reset behind its watcher is found", async () => {
  // As after a fail-over to data of an earlier time: the watcher knows an id that the stream will not reach for long.
  await using watch = await startWatch(["a"], {
    prepare: (redis, keys) => redis.xadd(keys.queueEvents("a"), "99999999999999-0", "event", "active", "jobId", "x"),
  });
  await watch.redis.del(watch.keys.queueEvents("a"));
  await watch.wakes("a", () => watch.add("job-00001", "a"));
  await watch.reads(1);
  await watch.wakes("a", () => watch.add("job-00002", "a"));
});

test("the watch ends at once when it is aborted, blocked or without a server", async () => {
  await using watch = await startWatch(["a", "b"], { blockMs: LONG_MS });
  await watch.stop();
  await using away = await startWatch();
  await away.rig.server.kill9();
  await until("the loss of the connection", () => away.losses > 0);
  await away.stop();
});
