import assert from "node:assert/strict";
import { test } from "node:test";
import { EmbeddingCache } from "./embedding-cache.ts";

interface Embedding {
  readonly sequence: Float32Array;
  readonly pooled: Uint16Array;
  readonly width: number;
}

/** 1000 bytes with a key of two characters. */
const embedding = (): Embedding => ({ sequence: new Float32Array(200), pooled: new Uint16Array(98), width: 20 });

/** Which of these keys are held; asking makes none. */
async function held(cache: EmbeddingCache<Embedding>, keys: readonly string[]): Promise<readonly string[]> {
  const unmade = new Error("it was not held");
  const found: string[] = [];
  for (const key of keys) {
    const { cached } = await cache.through(key, () => Promise.reject(unmade)).catch(() => ({ cached: false }));
    if (cached) found.push(key);
  }
  return found;
}

test("a prompt that was seen is not made again", async () => {
  const cache = new EmbeddingCache<Embedding>(10_000);
  const kept = embedding();
  assert.deepEqual(await cache.through("k1", async () => kept), { embedding: kept, cached: false });
  assert.equal((await cache.through("k1", () => assert.fail("it was made"))).embedding, kept);
});

test("the bound holds in bytes, keys included, and the least recently used goes first", async () => {
  const cache = new EmbeddingCache<Embedding>(3000);
  for (const key of ["k1", "k2", "k3"]) await cache.through(key, async () => embedding());
  assert.deepEqual(await held(cache, ["k1"]), ["k1"]);
  await cache.through("k4", async () => embedding());
  assert.deepEqual(await held(cache, ["k1", "k2", "k3", "k4"]), ["k1", "k3", "k4"]);
  const tight = new EmbeddingCache<Embedding>(999);
  await tight.through("k1", async () => embedding());
  assert.deepEqual(await held(tight, ["k1"]), []);
});

test("what was not made is not kept, and the next one makes it", async () => {
  const cache = new EmbeddingCache<Embedding>(3000);
  await assert.rejects(
    cache.through("k1", () => Promise.reject(new Error("no"))),
    /no/,
  );
  assert.equal((await cache.through("k1", async () => embedding())).cached, false);
});

test("two that make the same at once are counted once", async () => {
  const cache = new EmbeddingCache<Embedding>(2000);
  const both = [cache.through("k1", async () => embedding()), cache.through("k1", async () => embedding())];
  await Promise.all(both);
  await cache.through("k2", async () => embedding());
  assert.deepEqual(await held(cache, ["k1", "k2"]), ["k1", "k2"]);
});

test("a bound of 0 keeps nothing", async () => {
  const cache = new EmbeddingCache<Embedding>(0);
  await cache.through("k1", async () => embedding());
  assert.deepEqual(await held(cache, ["k1"]), []);
});
