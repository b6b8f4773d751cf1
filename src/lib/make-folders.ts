import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf } from "./errno.ts";

/**
 * Makes a folder and those above it. Node's own `recursive` goes round for ever, and cannot be stopped, where a folder is there and says
 * ENOENT to what shall be made in it, as /proc does. `mode` is for every folder that is made. @throws the file system's error
 */
export async function makeFolders(path: string, mode?: number): Promise<void> {
  try {
    await makeFolder(path, mode);
  } catch (thrown) {
    const above = dirname(path);
    if (errnoOf(thrown) !== "ENOENT" || above === path) throw thrown;
    await makeFolders(above, mode);
    // Once more and not again: what is above is there now.
    await makeFolder(path, mode);
  }
}

async function makeFolder(path: string, mode: number | undefined): Promise<void> {
  try {
    await mkdir(path, mode);
  } catch (thrown) {
    // Asked last: a read-only disk says EROFS of folders that are there, too.
    if (await isFolder(path)) return;
    throw thrown;
  }
}

export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
