import assert from "node:assert/strict";
import { test } from "node:test";
import { imageType } from "./image-type.ts";

test("images are told by their first bytes", () => {
  const typeOf = (hex: string): string | undefined => imageType(Buffer.from(hex.padEnd(32, "0"), "hex"))?.contentType;
  assert.equal(typeOf("89504e470d0a1a0a"), "image/png");
  assert.equal(typeOf("ffd8ffe0"), "image/jpeg");
  assert.equal(typeOf("52494646aabbccdd57454250"), "image/webp");
  assert.equal(typeOf("474946383961"), "image/gif");
  assert.equal(typeOf("0000001c6674797061766966"), "image/avif");
  assert.equal(typeOf("424d3600"), "image/bmp");
  assert.equal(typeOf("49492a00"), "image/tiff");
  assert.equal(typeOf("52494646aabbccdd41564920"), undefined, "RIFF alone is no picture");
  assert.equal(typeOf("3c737667"), undefined, "SVG is a program, not a picture");
});
