import assert from "node:assert/strict";
import { test } from "node:test";
import { EmbeddingCache, type PromptEmbedding } from "./embedding-cache.ts";

/** 1000 bytes with a key of two characters. */
const embedding = (): PromptEmbedding => ({
  sequence: new Float32Array(200),
  sequenceShape: [20, 10],
  pooled: new Float32Array(49),
});

test("a prompt that was seen is a hit, counted", () => {
  const cache = new EmbeddingCache(10_000);
  const kept = embedding();
  assert.equal(cache.get("k1"), null);
  cache.set("k1", kept);
  assert.equal(cache.get("k1"), kept);
  assert.deepEqual(cache.stats, { hits: 1, misses: 1, bytes: 1000, entries: 1 });
});

test("the bound holds in bytes, and the least recently used goes first", () => {
  const cache = new EmbeddingCache(3000);
  for (const key of ["k1", "k2", "k3"]) cache.set(key, embedding());
  cache.get("k1");
  cache.set("k4", embedding());
  assert.deepEqual(
    ["k1", "k2", "k3", "k4"].map((key) => cache.get(key) !== null),
    [true, false, true, true],
  );
  assert.equal(cache.stats.bytes, 3000);
});

test("setting a key again replaces it", () => {
  const cache = new EmbeddingCache(3000);
  cache.set("k1", embedding());
  const later = embedding();
  cache.set("k1", later);
  assert.equal(cache.get("k1"), later);
  assert.equal(cache.stats.bytes, 1000);
});

test("what is larger than the bound is not kept; a bound of 0 keeps nothing", () => {
  const cache = new EmbeddingCache(0);
  cache.set("k1", embedding());
  assert.deepEqual(cache.stats, { hits: 0, misses: 0, bytes: 0, entries: 0 });
});
