import assert from "node:assert/strict";
import { test } from "node:test";
import { packedShape, packLatents, unpackLatents } from "./latents.ts";

const shape = { channels: 2, height: 4, width: 6 };
const size = shape.channels * shape.height * shape.width;

test("a token holds a 2 x 2 block of every channel, channel-major", () => {
  const latents = Float32Array.from({ length: size }, (_, i) => i);
  const packed = new Float32Array(size);
  packLatents(latents, shape, packed);
  assert.deepEqual(packedShape(shape), { tokens: 6, features: 8 });
  // Token (1, 2): rows 2..3, columns 4..5 of both channels of 24 values each.
  assert.deepEqual([...packed.subarray(5 * 8, 6 * 8)], [16, 17, 22, 23, 40, 41, 46, 47]);
});

test("unpacking undoes packing", () => {
  const latents = Float32Array.from({ length: size }, (_, i) => Math.sin(i));
  const packed = new Float32Array(size);
  const back = new Float32Array(size);
  packLatents(latents, shape, packed);
  unpackLatents(packed, shape, back);
  assert.deepEqual(back, latents);
});

test("unpacking applies the decoder's scale and shift", () => {
  const packed = new Float32Array(size).fill(3);
  const back = new Float32Array(size);
  unpackLatents(packed, shape, back, 2, 0.25);
  assert.ok(back.every((value) => value === 1.75));
});
