import { mkdir, readdir, readFile, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, isMissing } from "../../lib/errno.ts";
import { sha256File } from "../../lib/sha256-file.ts";

/** False when it is there already. One trip to the thread pool, where a recursive one takes two per level. */
export async function makeDir(path: string): Promise<boolean> {
  try {
    await mkdir(path);
    return true;
  } catch (thrown) {
    if (errnoOf(thrown) === "EEXIST") return false;
    throw thrown;
  }
}

export async function digestOf(
  path: string,
  signal: AbortSignal | undefined,
): Promise<{ readonly sha256: string; readonly sizeBytes: number } | null> {
  try {
    const found = await stat(path);
    if (!found.isFile()) return null;
    return await sha256File(path, { expectedBytes: found.size, ...(signal !== undefined && { signal }) });
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
}

export async function listDirs(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (thrown) {
    if (isMissing(thrown)) return [];
    throw thrown;
  }
}

export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
}

export async function isOlder(path: string, before: number): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found !== null && found.mtimeMs < before;
}

export async function removeIfEmpty(path: string): Promise<boolean> {
  try {
    await rmdir(path);
    return true;
  } catch (thrown) {
    if (isMissing(thrown) || errnoOf(thrown) === "ENOTEMPTY") return false;
    throw thrown;
  }
}

/** Bytes of all files below; files that vanish meanwhile count as nothing. */
export async function sizeOf(path: string): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true }).catch(() => []);
  let total = 0;
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    total += await stat(join(entry.parentPath, entry.name)).then(
      (found) => found.size,
      () => 0,
    );
  }
  return total;
}
