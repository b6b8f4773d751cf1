import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/**
 * Bytes of a graph and of its weights: the files that are named for them, or, where none is, the files beside the graph whose names begin with
 * its own, which is how exporters call external data. Null when one is not there.
 * @param externalData absolute paths
 */
export async function graphBytes(path: string, externalData: readonly string[]): Promise<number | null> {
  const files = [path, ...(externalData.length > 0 ? externalData : await namedAfter(path))];
  const found = await Promise.all(files.map((file) => stat(file).catch(() => null)));
  return found.reduce<number | null>((sum, file) => (sum === null || file === null ? null : sum + file.size), 0);
}

async function namedAfter(path: string): Promise<readonly string[]> {
  const [folder, own] = [dirname(path), basename(path)];
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name !== own && name.startsWith(own)).map((name) => join(folder, name));
}
