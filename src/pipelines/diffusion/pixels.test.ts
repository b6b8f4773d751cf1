import assert from "node:assert/strict";
import { test } from "node:test";
import { asFloat32, floatDataOf, toFloatData } from "../graph/float-edge.ts";
import { fromPixels, toPixels } from "./pixels.ts";

test("bytes survive the way to -1..1 planes and back", () => {
  const image = { width: 16, height: 16, data: Uint8Array.from({ length: 768 }, (_, i) => i % 256) };
  const planes = fromPixels(image);
  assert.deepEqual([planes[0], planes.length], [-1, 768]);
  assert.deepEqual(toPixels({ data: planes, width: 16, height: 16 }), image);
});

test("values beyond -1..1 are clamped, channels become interleaved", () => {
  const pixels = toPixels({ data: Float32Array.of(-3, 0, 0, 1, 7, 0.5), width: 2, height: 1 });
  assert.deepEqual([...pixels!.data], [0, 128, 255, 128, 255, 191]);
});

test("one value that is not finite spoils the picture", () => {
  for (const bad of [Number.NaN, Infinity, -Infinity]) {
    assert.equal(toPixels({ data: Float32Array.of(0, 0, bad), width: 1, height: 1 }), null);
  }
});

test("float16 edges convert both ways; equal types share memory", () => {
  const values = Float32Array.of(0, 1, -2.5, 65504);
  const bits = toFloatData(values, "float16");
  assert.deepEqual(bits, Uint16Array.of(0, 0x3c00, 0xc100, 0x7bff));
  assert.deepEqual(asFloat32({ type: "float16", data: bits, dims: [4] }), values);
  assert.equal(toFloatData(values, "float32"), values);
  assert.equal(floatDataOf({ type: "float32", data: values, dims: [4] }, "float32"), values);
});
