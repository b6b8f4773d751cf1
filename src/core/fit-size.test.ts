import assert from "node:assert/strict";
import { test } from "node:test";
import { alignDown, fitSize } from "./fit-size.ts";

const bounds = { width: { min: 256, max: 1024 }, height: { min: 256, max: 1024 }, step: 1 };

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
  assert.deepEqual(fitSize({ width: 3, height: 9000 }, { width: {}, height: {}, step: 1 }), { width: 3, height: 9000 });
});

test("sides are rounded down to the step, after the image was scaled, but not below the minimum", () => {
  const sized = (width: number, height: number, step: number): readonly number[] => {
    const fitted = fitSize({ width, height }, { ...bounds, step });
    return [fitted.width, fitted.height];
  };
  assert.deepEqual(sized(500, 400, 16), [496, 400]);
  assert.deepEqual(sized(511.6, 300, 16), [496, 288], "511.6 is not 512");
  assert.deepEqual(sized(3000, 2000, 32), [1024, 672]);
  assert.deepEqual(sized(300, 300, 100), [300, 300]);
  assert.deepEqual(sized(260, 260, 100), [300, 300], "256 allows 300 and not 200");
  assert.deepEqual([alignDown(271, 16, {}), alignDown(272, 16, {}), alignDown(3, 16, {})], [256, 272, 16]);
});

test("a scale that is only almost a whole number is one", () => {
  for (let width = 257; width < 5_000; width += 7) {
    const fitted = fitSize({ width, height: width * 2 }, { ...bounds, step: 16 }, { width: 496 });
    assert.deepEqual(fitted, { width: 496, height: 992 }, String(width));
  }
});
