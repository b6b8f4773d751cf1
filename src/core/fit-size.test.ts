import assert from "node:assert/strict";
import { test } from "node:test";
import { fitSize } from "./fit-size.ts";

const bounds = { width: { min: 256, max: 1024 }, height: { min: 256, max: 1024 } };

test("an image within the bounds keeps its size, others are scaled with their proportions", () => {
  assert.deepEqual(fitSize({ width: 300, height: 1000 }, bounds), { width: 300, height: 1000 });
  assert.deepEqual(fitSize({ width: 4096, height: 2048 }, bounds), { width: 1024, height: 512 });
  assert.deepEqual(fitSize({ width: 64, height: 128 }, bounds), { width: 256, height: 512 });
});

test("an image too long for both bounds loses its proportions, not the bounds", () => {
  assert.deepEqual(fitSize({ width: 64, height: 4096 }, bounds), { width: 256, height: 1024 });
});

test("a side that was asked for sets the scale", () => {
  assert.deepEqual(fitSize({ width: 1000, height: 500 }, bounds, { height: 400 }), { width: 800, height: 400 });
  assert.deepEqual(fitSize({ width: 1000, height: 500 }, bounds, { width: 600 }), { width: 600, height: 300 });
});

test("without bounds the image keeps its size", () => {
  assert.deepEqual(fitSize({ width: 3, height: 9000 }, { width: {}, height: {} }), { width: 3, height: 9000 });
});
