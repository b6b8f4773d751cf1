import { readdir, readlink, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { PULLED } from "./pull-model.ts";
import { readPullRecord } from "./pull-record.ts";

/** A pull that lies in a folder of models. */
export interface PulledModel {
  readonly slug: string;
  readonly variant: string;
  readonly root: string;
  readonly dir: string;
  /** On the disk: files that come are sparse. */
  readonly bytes: number;
  readonly whole: boolean;
  /** It is what the model's name stands for. */
  readonly linked: boolean;
}

/** What pulls have put into a folder of models, which need not be there. */
export async function listPulled(root: string): Promise<readonly PulledModel[]> {
  const store = join(root, PULLED);
  const found: PulledModel[] = [];
  for (const slug of await names(store)) {
    const target = await readlink(join(root, slug)).catch(() => null);
    for (const folder of await names(join(store, slug))) {
      const dir = join(store, slug, folder);
      const record = await readPullRecord(dir);
      found.push({
        slug,
        variant: record?.variant ?? folder,
        root,
        dir,
        bytes: await bytesIn(dir),
        whole: record !== null && record.completedAt !== null,
        linked: target === join(PULLED, slug, folder),
      });
    }
  }
  return found;
}

/** First the name: a worker that looks meanwhile finds no model, and not a half. */
export async function removePulled({ root, slug, dir, linked }: PulledModel): Promise<void> {
  if (linked) await rm(join(root, slug), { force: true });
  await rm(dir, { recursive: true, force: true });
}

async function names(dir: string): Promise<readonly string[]> {
  return (await readdir(dir).catch(() => [])).toSorted();
}

async function bytesIn(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async (entry) => (await stat(join(entry.parentPath, entry.name))).blocks * 512));
  return sizes.reduce((sum, size) => sum + size, 0);
}
