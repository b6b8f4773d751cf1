import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../lib/errno.ts";
import { removeEmptyFolders } from "./file-folders.ts";

const PARTIAL = /^\..+\.partial$/;
const SIDECAR = /^\.(?<object>.+)\.meta$/;

/**
 * Removes what a crash leaves in a file store: unfinished files, sidecars without their object, empty folders. Only what was not touched
 * since `before` (unix ms, the file system's clock). Returns how many files.
 */
export async function removeUnfinishedFiles(root: string, before: number, signal: AbortSignal | undefined): Promise<number> {
  return sweepFolder(root, root, before, signal);
}

async function sweepFolder(root: string, folder: string, before: number, signal: AbortSignal | undefined): Promise<number> {
  signal?.throwIfAborted();
  // Looked at first: a removal in it makes a folder young.
  const isOld = folder !== root && (await isOlder(folder, before));
  const entries = await readdir(folder, { withFileTypes: true }).catch((thrown: unknown) => {
    if (isMissing(thrown)) return [];
    throw thrown;
  });
  const names = new Set(entries.map(({ name }) => name));
  let removed = 0;
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removed += await sweepFolder(root, path, before, signal);
    else if (entry.isFile() && isLeft(entry.name, names) && (await isOlder(path, before))) {
      await rm(path, { force: true });
      removed += 1;
    }
  }
  if (isOld) await removeEmptyFolders(root, folder);
  return removed;
}

function isLeft(name: string, names: ReadonlySet<string>): boolean {
  if (PARTIAL.test(name)) return true;
  const object = SIDECAR.exec(name)?.groups?.["object"];
  return object !== undefined && !names.has(object);
}

async function isOlder(path: string, before: number): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found !== null && found.mtimeMs < before;
}
