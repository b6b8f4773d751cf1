import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";

const CHUNK_BYTES = 256 * 1024;

/** Copies all that there is, more than expected too, and hashes it on the way. `expectedBytes` sizes the buffer. */
export async function copyHashed(
  from: FileHandle,
  to: FileHandle,
  expectedBytes: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, expectedBytes + 1));
  let sizeBytes = 0;
  for (;;) {
    signal?.throwIfAborted();
    const { bytesRead } = await from.read(buffer, 0, buffer.length, sizeBytes);
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    if (bytesRead > 0) await to.writeFile(chunk);
    sizeBytes += bytesRead;
    // A plain file gives less than was asked for at its end alone.
    if (bytesRead < buffer.length) return { sha256: hash.digest("hex"), sizeBytes };
  }
}
