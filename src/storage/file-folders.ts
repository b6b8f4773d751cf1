import { lstat, mkdir, readdir, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoOf, isMissing } from "../lib/errno.ts";
import { AppError } from "../protocol/error.ts";
import type { ListedObject } from "./object-store.ts";

/**
 * The folder that holds a key's file, or null when it does not exist (and `create` is false). Goes down segment by segment and refuses
 * symbolic links: an object never lies outside the root.
 * @throws AppError STORAGE_REJECTED when a link or a file is in the way
 */
export async function folderOf(root: string, key: string, create: boolean): Promise<string | null> {
  let folder = root;
  for (const segment of key.split("/").slice(0, -1)) {
    folder = join(folder, segment);
    if (create) {
      await mkdir(folder).catch((thrown: unknown) => {
        if (errnoOf(thrown) !== "EEXIST") throw thrown;
      });
    }
    const found = await lstat(folder).catch((thrown: unknown) => {
      if (isMissing(thrown)) return null;
      throw thrown;
    });
    if (found === null) {
      if (create) throw Object.assign(new Error(`ENOENT: ${folder} was removed meanwhile`), { code: "ENOENT" });
      return null;
    }
    if (!found.isDirectory()) {
      const what = found.isSymbolicLink() ? "a symbolic link" : "not a folder";
      throw new AppError("STORAGE_REJECTED", `file store ${root}: ${folder} is ${what}; objects must lie in plain folders`);
    }
  }
  return folder;
}

/** Removes the folders above a deleted object that became empty, up to the root. A put that needs one makes it again. */
export async function removeEmptyFolders(root: string, folder: string): Promise<void> {
  for (let path = folder; path !== root; path = dirname(path)) {
    try {
      await rmdir(path);
    } catch (thrown) {
      if (!isMissing(thrown)) return;
    }
  }
}

/** Objects below the root whose key starts with `prefix` and lies behind `after`, in the order of S3: that of the keys' UTF-8 bytes. */
export async function* walkObjects(root: string, prefix: string, after: string): AsyncGenerator<ListedObject> {
  const start = prefix.slice(0, prefix.lastIndexOf("/") + 1);
  const folder = start === "" ? root : await folderOf(root, `${start}x`, false);
  if (folder !== null) yield* walk({ folder, above: start }, prefix, after);
}

async function* walk(
  { folder, above }: { readonly folder: string; readonly above: string },
  prefix: string,
  after: string,
): AsyncGenerator<ListedObject> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((thrown: unknown) => {
    if (isMissing(thrown)) return [];
    throw thrown;
  });
  // A folder sorts as its keys do: with the slash behind its name.
  const named = entries
    .filter((entry) => !entry.name.startsWith(".") && (entry.isFile() || entry.isDirectory()))
    .map((entry) => ({ entry, key: `${above}${entry.name}${entry.isDirectory() ? "/" : ""}` }))
    .filter(({ key }) => key.startsWith(prefix) || (key.endsWith("/") && prefix.startsWith(key)))
    // Of a folder that `after` lies in, a part is behind it.
    .filter(({ key }) => after === "" || bytewise(key, after) > 0 || (key.endsWith("/") && after.startsWith(key)))
    .toSorted((a, b) => bytewise(a.key, b.key));
  for (const { entry, key } of named) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      yield* walk({ folder: path, above: key }, prefix, after);
      continue;
    }
    const found = await stat(path).catch(() => null);
    if (found !== null) yield { key, sizeBytes: found.size, modifiedAt: Math.round(found.mtimeMs) };
  }
}

function bytewise(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
