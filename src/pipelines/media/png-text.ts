import { crc32 } from "node:zlib";

const SIGNATURE_BYTES = 8;
/** Length, type, 13 bytes of header, checksum. */
const IHDR_BYTES = 25;

/**
 * Puts texts into a PNG as uncompressed iTXt chunks (UTF-8) right after its header; sharp cannot write them. Keywords are 1 to 79
 * printable Latin-1 characters without leading, trailing or doubled spaces. Source: PNG specification, 11.3.3.
 * @throws RangeError for a keyword that no reader would accept, or bytes that are no PNG.
 */
export function insertPngText(png: Uint8Array, texts: Readonly<Record<string, string>>): Buffer {
  const head = Buffer.from(png.buffer, png.byteOffset, png.byteLength);
  if (head.length < SIGNATURE_BYTES + IHDR_BYTES || head.toString("latin1", 12, 16) !== "IHDR") {
    throw new RangeError("the bytes to put texts into are no PNG: this is a bug");
  }
  const at = SIGNATURE_BYTES + IHDR_BYTES;
  const chunks = Object.entries(texts).map(([keyword, text]) => textChunk(keyword, text));
  return Buffer.concat([head.subarray(0, at), ...chunks, head.subarray(at)]);
}

function textChunk(keyword: string, text: string): Buffer {
  if (!/^[!-~\u00A1-\u00FF]( ?[!-~\u00A1-\u00FF]){0,78}$/.test(keyword) || keyword.length > 79) {
    throw new RangeError(`${JSON.stringify(keyword)} is no PNG keyword: expected 1 to 79 printable Latin-1 characters`);
  }
  // Keyword, end, not compressed, method 0, no language, no translated keyword, text. A NUL would end the text early for some readers.
  const data = Buffer.concat([
    Buffer.from(keyword, "latin1"),
    Buffer.from([0, 0, 0, 0, 0]),
    Buffer.from(text.replaceAll("\0", ""), "utf8"),
  ]);
  const chunk = Buffer.alloc(12 + data.length);
  chunk.writeUInt32BE(data.length, 0);
  chunk.write("iTXt", 4, "latin1");
  data.copy(chunk, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + data.length)), 8 + data.length);
  return chunk;
}
