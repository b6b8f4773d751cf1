import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { resizeLanczos } from "./resize-lanczos.ts";
import type { RgbImage } from "./rgb-image.ts";

const FIXTURES = new URL("../../../test/fixtures/media/", import.meta.url);

async function load(name: string): Promise<RgbImage> {
  const { data, info } = await sharp(new URL(name, FIXTURES).pathname).raw().toBuffer({ resolveWithObject: true });
  assert.equal(info.channels, 3);
  return { width: info.width, height: info.height, data: new Uint8Array(data) };
}

for (const [width, height] of [
  [48, 64],
  [97, 32],
  [64, 71],
  [160, 128],
  [16, 16],
  // More than twice as many rows as columns are lost: rows go first.
  [90, 32],
  [128, 64],
  [96, 69],
] as const) {
  test(`97x71 to ${width}x${height} equals Pillow's LANCZOS in every byte`, async () => {
    const expected = await load(`lanczos-${width}x${height}.png`);
    assert.deepEqual(resizeLanczos(await load("source.png"), width, height), expected);
  });
}

test("the same size is the same picture", async () => {
  const source = await load("source.png");
  assert.equal(resizeLanczos(source, source.width, source.height), source);
});
