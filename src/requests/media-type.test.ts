import assert from "node:assert/strict";
import { test } from "node:test";
import { mediaType } from "./media-type.ts";

test("sound and film are told from pictures, and from each other, by their first bytes", () => {
  const typeOf = (head: string): string => {
    const found = mediaType(Buffer.from(head.padEnd(16, "\0"), "latin1"));
    return found === null ? "none" : `${found.kind} ${found.contentType}`;
  };
  assert.equal(typeOf("\x89PNG\r\n\x1a\n"), "image image/png");
  assert.equal(typeOf("RIFF\x24\x08\0\0WAVEfmt "), "audio audio/wav");
  assert.equal(typeOf("RIFF\x24\x08\0\0WEBPVP8 "), "image image/webp");
  assert.equal(typeOf("RIFF\x24\x08\0\0AVI LIST"), "video video/x-msvideo");
  assert.equal(typeOf("ID3\x04"), "audio audio/mpeg");
  assert.equal(typeOf("\xff\xfb\x90\x64"), "audio audio/mpeg");
  assert.equal(typeOf("\xff\xf1\x50\x80"), "audio audio/aac");
  assert.equal(typeOf("\xff\xd8\xff\xe0"), "image image/jpeg");
  assert.equal(typeOf("fLaC"), "audio audio/flac");
  assert.equal(typeOf("OggS"), "audio audio/ogg");
  assert.equal(typeOf("\0\0\0\x1cftypM4A "), "audio audio/mp4");
  assert.equal(typeOf("\0\0\0\x1cftypisom"), "video video/mp4");
  assert.equal(typeOf("\0\0\0\x1cftypmp42"), "video video/mp4");
  assert.equal(typeOf("\0\0\0\x14ftypqt  "), "video video/quicktime");
  assert.equal(typeOf("\x1aE\xdf\xa3"), "video video/webm");
  for (const other of ["", "RIFF\0\0\0\0XXXX", "\0\0\0\x1cftypzzzz", "<svg/>", "#EXTM3U"])
    assert.equal(typeOf(other), "none", JSON.stringify(other));
});
