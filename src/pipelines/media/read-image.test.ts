import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { crc32 } from "node:zlib";
import sharp, { type Sharp } from "sharp";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import { readImage } from "./read-image.ts";

const FIXTURES = new URL("../../../test/fixtures/media/", import.meta.url);
let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "read-image-"));
});
after(() => rm(dir, { recursive: true, force: true }));

/** Left half red, right half blue. */
const halves = (width: number, height: number): Sharp =>
  sharp(Buffer.from(Array.from({ length: width * height }, (_, i) => (i % width < width / 2 ? [255, 0, 0] : [0, 0, 255])).flat()), {
    raw: { width, height, channels: 3 },
  });

async function file(name: string, bytes: Uint8Array | string): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, bytes);
  return path;
}

const refused =
  (code: ErrorCode) =>
  (...texts: RegExp[]) =>
  (thrown: unknown): boolean =>
    thrown instanceof AppError && thrown.code === code && texts.every((text) => text.test(thrown.message));
const unreadable = refused("IMAGE_UNREADABLE");
const wrongSize = refused("IMAGE_SIZE_INVALID");

for (const format of ["png", "jpeg", "webp", "gif"] as const) {
  test(`${format} is read by content, whatever its name says`, async () => {
    const image = await readImage(await file(`${format}.txt`, await halves(80, 64).toFormat(format).toBuffer()));
    assert.deepEqual([image.width, image.height, image.data.length], [80, 64, 80 * 64 * 3]);
    const [red, , blue] = image.data;
    assert.ok(red! > 230 && blue! < 25, `${red} ${blue}`);
  });
}

test("bmp is read", async () => {
  const image = await readImage(new URL("bmp-24bit.bmp", FIXTURES).pathname);
  const png = await readImage(new URL("source.png", FIXTURES).pathname);
  assert.deepEqual(image, png);
});

test("EXIF orientation is applied", async () => {
  const jpeg = await halves(100, 70).jpeg().withMetadata({ orientation: 6 }).toBuffer();
  const image = await readImage(await file("turned.jpg", jpeg));
  assert.deepEqual([image.width, image.height], [70, 100]);
  assert.ok(image.data[0]! > 200, "the left half is now the upper one");
  assert.ok(image.data.at(-1)! > 200, "the right half is now the lower one");
});

test("gray, alpha and 16 bits become 8-bit colour", async () => {
  const gray = await readImage(await file("gray.png", await halves(64, 64).grayscale().png().toBuffer()));
  assert.equal(gray.data.length, 64 * 64 * 3);
  const alpha = await readImage(await file("alpha.png", await halves(64, 64).ensureAlpha(0).png().toBuffer()));
  assert.deepEqual([...alpha.data.subarray(0, 3)], [255, 0, 0]);
  const deep = await readImage(await file("deep.png", await halves(64, 64).toColourspace("rgb16").png().toBuffer()));
  assert.deepEqual([...deep.data.subarray(0, 3)], [255, 0, 0]);
});

test("too small, too large: refused by the header, with the size", async () => {
  await assert.rejects(readImage(await file("small.png", await halves(63, 64).png().toBuffer())), wrongSize(/small\.png/, /63 x 64/));
  const wide = await sharp({ create: { width: 5001, height: 64, channels: 3, background: "red" } })
    .png()
    .toBuffer();
  await assert.rejects(readImage(await file("wide.png", wide)), wrongSize(/5001 x 64/, /64 to 5000/));
  // A header that claims 12000 x 12000: a bomb is refused before a byte of it is decoded.
  const bomb = await halves(64, 64).png().toBuffer();
  bomb.writeUInt32BE(12_000, 16);
  bomb.writeUInt32BE(12_000, 20);
  bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29);
  await assert.rejects(readImage(await file("bomb.png", bomb)), wrongSize(/12000 x 12000/));
});

test("what is no picture is refused with its name and what was expected", async () => {
  await assert.rejects(readImage(await file("empty.png", "")), unreadable(/empty\.png is empty/));
  await assert.rejects(readImage(await file("text.png", "hello")), unreadable(/text\.png/, /expected a jpg, png, gif, bmp or webp/));
  // Nobody's fault but ours.
  await assert.rejects(readImage(join(dir, "absent.png")), { code: "INTERNAL", message: /absent\.png cannot be opened/ });
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100"/>';
  await assert.rejects(readImage(await file("drawing.png", svg)), unreadable(/drawing\.png is svg/));
});

test("a truncated picture is refused", async () => {
  const png = await sharp(new URL("source.png", FIXTURES).pathname).jpeg().toBuffer();
  await assert.rejects(readImage(await file("cut.jpg", png.subarray(0, png.length / 2))), unreadable(/cut\.jpg is damaged/));
  await assert.rejects(readImage(await file("cut.bmp", Buffer.from(`BM${"\0".repeat(40)}`))), unreadable(/cut\.bmp is damaged/));
});
