import { stat } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "./errno.ts";

/**
 * The first of several sets of files of which every one is there; null when none is whole. Paths are relative to `dir`. What is there and
 * cannot be read counts as there: who opens it tells why.
 */
export async function firstWhole<Item extends { readonly file: string }>(
  dir: string,
  sets: readonly (readonly Item[])[],
): Promise<readonly Item[] | null> {
  for (const set of sets) {
    const there = await Promise.all(set.map(({ file }) => isThere(join(dir, file))));
    if (there.every(Boolean)) return set;
  }
  return null;
}

/** Whether something is at a path. */
export async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (thrown: unknown) => !isMissing(thrown),
  );
}
