import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryPeak } from "./memory-peak.ts";

function watched(isStaged: boolean) {
  const now = { rss: 10, device: 100 as number | null };
  const peak = new MemoryPeak({ read: () => Promise.resolve(now.device) }, isStaged, () => now.rss);
  const set = (rss: number, device: number | null): void => void Object.assign(now, { rss, device });
  return { peak, set };
}

test("by turns the most that was seen between two pieces of work counts, once", async () => {
  const { peak, set } = watched(true);
  set(50, 500);
  peak.look();
  set(20, 200);
  assert.deepEqual(await peak.take(), { rssBytes: 50, deviceBytes: 500 });
  assert.deepEqual(await peak.take(), { rssBytes: 20, deviceBytes: 200 });
});

test("where all stays only the end counts", async () => {
  const { peak, set } = watched(false);
  set(50, 500);
  peak.look();
  set(20, 200);
  assert.deepEqual(await peak.take(), { rssBytes: 20, deviceBytes: 200 });
});

test("a device that cannot be read stays unknown", async () => {
  const { peak, set } = watched(true);
  set(50, null);
  peak.look();
  assert.deepEqual(await peak.take(), { rssBytes: 50, deviceBytes: null });
});
