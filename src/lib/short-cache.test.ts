import assert from "node:assert/strict";
import { test } from "node:test";
import { ShortCache } from "./short-cache.ts";

test("an answer is kept for its time, a newer one takes its place, and the oldest makes room", () => {
  let now = 0;
  const cache = new ShortCache<string, number>({ ttlMs: 100, max: 2, now: () => now });
  cache.set("a", 1);
  now = 99;
  assert.equal(cache.get("a"), 1);
  cache.set("a", 2);
  now = 150;
  assert.equal(cache.get("a"), 2, "its time began anew");
  now = 199;
  assert.equal(cache.get("a"), undefined);
  cache.set("a", 1);
  cache.set("b", 2);
  cache.set("c", 3);
  assert.deepEqual([cache.get("a"), cache.get("b"), cache.get("c")], [undefined, 2, 3]);
});
