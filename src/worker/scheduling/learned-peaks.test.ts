import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { DetectedDevice } from "../devices/devices.ts";
import { LearnedPeaks } from "./learned-peaks.ts";

const gpu = (index: number, uuid: string): DetectedDevice => ({
  id: `cuda:${index}`,
  kind: "cuda",
  index,
  threads: 1,
  name: "GPU",
  memoryBytes: 100,
  uuid,
});
const DEVICES = [gpu(0, "GPU-a"), gpu(1, "GPU-b")];
let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "peaks-"));
});
after(() => rm(dir, { recursive: true }));

test("what was learned is there after a restart, for the same cards alone", async () => {
  const state = join(dir, "new", "state");
  const first = await LearnedPeaks.open(state, DEVICES);
  assert.deepEqual(first.peaks, {});
  const peaks = { "flux@cuda:0": 50, "flux#staged@cuda:1": 20, "gone@cuda:7": 5 };
  await first.save(peaks);
  assert.deepEqual((await LearnedPeaks.open(state, DEVICES)).peaks, { "flux@cuda:0": 50, "flux#staged@cuda:1": 20 });
  assert.deepEqual((await LearnedPeaks.open(state, [gpu(0, "GPU-new"), gpu(1, "GPU-b")])).peaks, { "flux#staged@cuda:1": 20 });
  await first.save({});
  assert.deepEqual((await LearnedPeaks.open(state, DEVICES)).peaks, {});
});

test("what did not change is not written", async () => {
  const state = join(dir, "unwritten");
  const learned = await LearnedPeaks.open(state, DEVICES);
  await learned.save(learned.peaks);
  await assert.rejects(readdir(state), { code: "ENOENT" });
});

test("a damaged file is none", async () => {
  for (const text of ["", "{", '{"v":2,"peaks":{}}', '{"v":1,"peaks":{"flux@cuda:0":{"bytes":-1,"device":"GPU-a/100"}}}']) {
    await writeFile(join(dir, "memory-peaks.json"), text);
    assert.deepEqual((await LearnedPeaks.open(dir, DEVICES)).peaks, {}, text);
  }
  await writeFile(join(dir, "memory-peaks.json"), '{"v":1,"peaks":{"flux@cuda:0":{"bytes":101,"device":"GPU-a/100"}}}');
  assert.deepEqual((await LearnedPeaks.open(dir, DEVICES)).peaks, {}, "more than the card has");
});
