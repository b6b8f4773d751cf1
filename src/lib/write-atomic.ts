import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Makes renames and removals in a folder survive a power cut. Folders that cannot be synced (some network mounts) are left as they are. */
export async function syncDir(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code !== "EINVAL" && code !== "ENOTSUP") throw thrown;
  } finally {
    await handle.close();
  }
}

/** A name beside `path` for its unfinished bytes: never taken by two writers, recognised by sweeps through its ending. */
export function partialPath(path: string): string {
  return `${path}.${randomBytes(6).toString("hex")}.partial`;
}

/**
 * Replaces a file so that a reader, also one after a crash or a power cut, sees the old or the new content and nothing else:
 * temporary name, fsync, rename, fsync of the folder. Rejects with the file system's error; nothing is left behind then.
 */
export async function writeAtomic(path: string, data: string | Uint8Array, mode = 0o644): Promise<void> {
  const partial = partialPath(path);
  try {
    const handle = await open(partial, "wx", mode);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (thrown) {
    await rm(partial, { force: true });
    throw thrown;
  }
  await syncDir(dirname(path));
}
