import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { insertPngText } from "./png-text.ts";

const png = await sharp({ create: { width: 4, height: 4, channels: 3, background: "red" } })
  .png()
  .toBuffer();

test("libpng reads the texts back, any script", async () => {
  const texts = { prompt: "ein Hund, 犬 🐕\nzweite Zeile", seed: "42", "Software Name": "x" };
  const { comments } = await sharp(insertPngText(png, texts)).metadata();
  assert.deepEqual(Object.fromEntries((comments ?? []).map((comment) => [comment.keyword, comment.text])), texts);
});

test("the picture stays as it was", async () => {
  const before = await sharp(png).raw().toBuffer();
  const after = await sharp(insertPngText(png, { prompt: "a" }))
    .raw()
    .toBuffer();
  assert.deepEqual(after, before);
});

test("a NUL is dropped, since it would end the text", async () => {
  const { comments } = await sharp(insertPngText(png, { prompt: "a\0b" })).metadata();
  assert.equal(comments?.[0]?.text, "ab");
});

test("keywords that no reader accepts are refused", () => {
  for (const keyword of ["", " a", "a ", "a  b", "x".repeat(80), "日本"]) {
    assert.throws(() => insertPngText(png, { [keyword]: "text" }), RangeError);
  }
});

test("bytes that are no PNG are refused", () => {
  assert.throws(() => insertPngText(Buffer.from("GIF89a"), { prompt: "a" }), RangeError);
});
