import { createHash } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../protocol/error.ts";
import { diskFull } from "../../protocol/disk-full.ts";

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
    await rm(partial, { force: true });
    const text = `${path} (${bytes.length} bytes) cannot be written: ${(thrown as Error).message}`;
    throw diskFull(new Error(text, { cause: thrown })) ?? new AppError("INTERNAL", text, { cause: thrown });
  }
  return { sizeBytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

/** Waits for all writes, also when one fails: after a job's end nothing writes into its folder. */
export async function allWritten<T>(writes: readonly Promise<T>[]): Promise<readonly T[]> {
  await Promise.allSettled(writes);
  return Promise.all(writes);
}
