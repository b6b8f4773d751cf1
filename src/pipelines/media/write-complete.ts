import { createHash } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../protocol/error.ts";

/**
 * Writes a file that appears complete or not at all. The daemon, not the runner, makes outputs durable (it checks size and sha256 after a
 * crash), so that no fsync is paid here. @throws AppError SPOOL_FULL when the disk is full, INTERNAL for any other failure
 */
export async function writeComplete(dir: string, name: string, bytes: Uint8Array): Promise<{ sizeBytes: number; sha256: string }> {
  const path = join(dir, name);
  const partial = `${path}.partial`;
  try {
    await writeFile(partial, bytes);
    await rename(partial, path);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === "ENOSPC" || code === "EDQUOT") {
      throw new AppError("SPOOL_FULL", `no space left for ${path} (${bytes.length} bytes): free space in the spool's file system`, {
        cause: thrown,
      });
    }
    throw new AppError("INTERNAL", `${path} cannot be written: ${(thrown as Error).message}`, { cause: thrown });
  }
  return { sizeBytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}
