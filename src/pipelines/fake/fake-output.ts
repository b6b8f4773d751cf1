import { createHash } from "node:crypto";
import { openSync, closeSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32, deflateSync } from "node:zlib";
import type { SpoolFile } from "../../protocol/result.ts";

export const PNG_SIZE = 8;

/** 265 bytes: a grey 8 x 8 baseline JPEG, what a preview looks like on the wire. */
export const PREVIEW_JPEG: Uint8Array = Buffer.from(
  "/9j/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAIAAgDASIAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/xAAUAQEAAAAAAAAAAAAAAAAAAAAA/8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8AAA//2Q==",
  "base64",
);

const PNG: Uint8Array = tinyPng();
const PNG_SHA256: string = sha256(PNG);

/**
 * Writes the picture: in one call, without the temporary name that larger outputs get. Synchronous, since for a hundred bytes that is
 * cheaper than the thread pool, and this process has nothing else to do.
 */
export function writePicture(outDir: string): SpoolFile {
  writeFileSync(join(outDir, "image.png"), PNG);
  return { name: "image.png", role: "main", contentType: "image/png", sizeBytes: PNG.byteLength, sha256: PNG_SHA256 };
}

/** Writes `output.bin`: `sizeBytes` bytes, equal for equal seeds, in chunks of 64 KiB. */
export function writeBytes(outDir: string, sizeBytes: number, seed: number): SpoolFile {
  const hash = createHash("sha256");
  const partial = join(outDir, "output.bin.partial");
  const file = openSync(partial, "w");
  try {
    const chunk = Buffer.alloc(64 * 1024);
    for (let done = 0, i = 0; done < sizeBytes; done += chunk.length, i++) {
      chunk.fill(createHash("sha256").update(`${seed}/${i}`).digest());
      const part = chunk.subarray(0, Math.min(chunk.length, sizeBytes - done));
      hash.update(part);
      writeSync(file, part);
    }
  } finally {
    closeSync(file);
  }
  renameSync(partial, join(outDir, "output.bin"));
  return { name: "output.bin", role: "main", contentType: "application/octet-stream", sizeBytes, sha256: hash.digest("hex") };
}

/** An 8 x 8 RGB picture: signature, IHDR, one IDAT, IEND. */
function tinyPng(): Uint8Array {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(PNG_SIZE, 0);
  header.writeUInt32BE(PNG_SIZE, 4);
  header.set([8, 2, 0, 0, 0], 8);
  // Each row begins with its filter type, 0 = none.
  const rows = Buffer.from(
    Array.from({ length: PNG_SIZE }, (_, y) => [0, ...Array.from({ length: PNG_SIZE }, (_, x) => [x * 32, y * 32, 128]).flat()]).flat(),
  );
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.byteLength);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}

function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
