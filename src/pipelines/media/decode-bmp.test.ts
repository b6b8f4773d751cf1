import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import sharp from "sharp";
import { decodeBmp, isBmp, readBmpHeader } from "./decode-bmp.ts";
import type { RgbImage } from "./rgb-image.ts";

const FIXTURES = new URL("../../../test/fixtures/media/", import.meta.url);

function decode(bytes: Uint8Array): RgbImage {
  assert.ok(isBmp(bytes));
  return decodeBmp(bytes, readBmpHeader(bytes));
}

for (const kind of ["1bit", "gray", "palette", "24bit", "32bit"]) {
  test(`a ${kind} bitmap equals what Pillow reads`, async () => {
    const expected = await sharp(new URL(`bmp-${kind}.png`, FIXTURES).pathname)
      .raw()
      .toBuffer();
    const image = decode(await readFile(new URL(`bmp-${kind}.bmp`, FIXTURES)));
    assert.deepEqual([image.width, image.height], [97, 71]);
    assert.ok(Buffer.from(image.data).equals(expected));
  });
}

/** A bitmap with a 40-byte header. */
function bitmap(options: { width: number; height: number; bits: number; compression: number; extra?: number[]; pixels: number[] }): Buffer {
  const extra = options.extra ?? [];
  const head = Buffer.alloc(54);
  head.write("BM", 0, "latin1");
  head.writeUInt32LE(54 + extra.length, 10);
  head.writeUInt32LE(40, 14);
  head.writeInt32LE(options.width, 18);
  head.writeInt32LE(options.height, 22);
  head.writeUInt16LE(options.bits, 28);
  head.writeUInt32LE(options.compression, 30);
  head.writeUInt32LE(options.bits <= 8 ? extra.length / 4 : 0, 46);
  return Buffer.concat([head, Buffer.from(extra), Buffer.from(options.pixels)]);
}

const RED_GREEN_BLUE = [0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0];

test("a negative height means top row first", () => {
  const image = decode(bitmap({ width: 1, height: -2, bits: 24, compression: 0, pixels: [3, 2, 1, 0, 6, 5, 4, 0] }));
  assert.deepEqual([...image.data], [1, 2, 3, 4, 5, 6]);
});

test("16 bits without masks are 5-5-5", () => {
  const image = decode(bitmap({ width: 2, height: 1, bits: 16, compression: 0, pixels: [0x00, 0x7c, 0xe0, 0x03] }));
  assert.deepEqual([...image.data], [255, 0, 0, 0, 255, 0]);
});

test("16 bits with masks are read by them", () => {
  const masks = [0x00, 0xf8, 0, 0, 0xe0, 0x07, 0, 0, 0x1f, 0, 0, 0];
  const image = decode(bitmap({ width: 2, height: 1, bits: 16, compression: 3, extra: masks, pixels: [0xe0, 0x07, 0x1f, 0x00] }));
  assert.deepEqual([...image.data], [0, 255, 0, 0, 0, 255]);
});

test("32 bits with masks, the top one in the sign bit", () => {
  const masks = [0, 0, 0, 0xff, 0, 0, 0xff, 0, 0, 0xff, 0, 0];
  const image = decode(bitmap({ width: 1, height: 1, bits: 32, compression: 3, extra: masks, pixels: [9, 30, 20, 200] }));
  assert.deepEqual([...image.data], [200, 20, 30]);
});

test("run lengths of 8 bits: runs, literals, moves and the end", () => {
  const pixels = [0, 3, 1, 2, 1, 0, 0, 0, 0, 2, 1, 0, 2, 1, 0, 1];
  const image = decode(bitmap({ width: 3, height: 2, bits: 8, compression: 1, extra: RED_GREEN_BLUE, pixels }));
  // Pixels that a move skips keep colour 0 of an untouched buffer, black.
  const green = [0, 255, 0];
  const blue = [0, 0, 255];
  const lower = [...green, ...blue, ...green];
  assert.deepEqual([...image.data], [0, 0, 0, ...green, ...green, ...lower]);
});

test("run lengths of 4 bits alternate two colours", () => {
  const image = decode(bitmap({ width: 4, height: 1, bits: 4, compression: 2, extra: RED_GREEN_BLUE, pixels: [4, 0x12, 0, 1] }));
  assert.deepEqual([...image.data], [0, 255, 0, 0, 0, 255, 0, 255, 0, 0, 0, 255]);
});

test("truncated and odd files are refused with the reason", () => {
  assert.throws(() => decode(bitmap({ width: 9, height: 9, bits: 24, compression: 0, pixels: [1, 2, 3] })), /truncated: 57 of/);
  assert.throws(() => decode(bitmap({ width: 1, height: 1, bits: 24, compression: 4, pixels: [] })), /compression 4/);
  assert.throws(
    () => readBmpHeader(bitmap({ width: 1, height: 1, bits: 8, compression: 0, pixels: [] }).subarray(0, 30)),
    /ends inside its header/,
  );
});
