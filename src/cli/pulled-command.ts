import type { Config } from "../config/config.ts";
import { pulledModelsDir } from "../config/model-folders.ts";
import { isFolder } from "../lib/make-folders.ts";
import { lockPulls } from "../models/pull/pull-lock.ts";
import { listPulled, removePulled, type PulledModel } from "../models/pull/pulled-models.ts";
import { AppError } from "../protocol/error.ts";
import { EXIT } from "./exit-codes.ts";
import { waitingFor } from "./pull-progress.ts";
import { formatBytes, formatTable, type Terminal } from "./terminal.ts";

interface Where {
  readonly into?: string;
}

/** Folders that pulls may have put models into. */
function rootsOf({ modelsDirs, stateDir }: Config, { into }: Where): readonly string[] {
  return into === undefined ? [...new Set([...modelsDirs, pulledModelsDir({ stateDir })])] : [into];
}

/** `dryapi models du`: what pulls take of the disk. */
export async function runModelsUsage(config: Config, options: Where & { readonly json: boolean }, terminal: Terminal): Promise<number> {
  const pulled = (await Promise.all(rootsOf(config, options).map(listPulled))).flat();
  if (options.json) terminal.out(JSON.stringify({ pulled }, null, 2));
  else {
    const rows = pulled.map((each) => [each.slug, each.variant, formatBytes(each.bytes), stateOf(each), each.dir]);
    terminal.out(formatTable([["MODEL", "VARIANT", "ON DISK", "STATE", "FOLDER"], ...rows]));
    terminal.out(`${formatBytes(pulled.reduce((sum, { bytes }) => sum + bytes, 0))} in all`);
  }
  return EXIT.ok;
}

function stateOf({ whole, linked }: PulledModel): string {
  if (!whole) return "not whole: pull it again to go on, or prune it";
  return linked ? "in use under its name" : "replaced by another variant: prune removes it";
}

/** `dryapi models rm`: models by name, with all of their variants. */
export async function runModelsRemove(config: Config, slugs: readonly string[], options: Where, terminal: Terminal): Promise<number> {
  const roots = rootsOf(config, options);
  const removed = await removeWhere(roots, ({ slug }) => slugs.includes(slug), terminal);
  const unknown = slugs.filter((slug) => !removed.includes(slug));
  if (unknown.length === 0) return EXIT.ok;
  throw new AppError("MODEL_NOT_FOUND", `no pulled model ${unknown.join(", ")} in ${roots.join(", ")}; dryapi models du lists them`);
}

/** `dryapi models prune`: pulls that are not whole, and those that no name stands for. */
export async function runModelsPrune(config: Config, options: Where, terminal: Terminal): Promise<number> {
  const removed = await removeWhere(rootsOf(config, options), ({ linked, whole }) => !linked || !whole, terminal);
  if (removed.length === 0) terminal.out("nothing to remove");
  return EXIT.ok;
}

/** Slugs of what was removed. A pull under way looks like one that was given up: it is waited for. */
async function removeWhere(
  roots: readonly string[],
  isChosen: (pulled: PulledModel) => boolean,
  terminal: Terminal,
): Promise<readonly string[]> {
  const removed: string[] = [];
  for (const root of roots) {
    if (!(await isFolder(root)) || (await listPulled(root)).length === 0) continue;
    await using _lock = await lockPulls(root, "removes models", (other) => terminal.err(waitingFor(other)));
    for (const pulled of (await listPulled(root)).filter(isChosen)) {
      await removePulled(pulled);
      removed.push(pulled.slug);
      terminal.out(`removed  ${pulled.slug} ${pulled.variant}  ${formatBytes(pulled.bytes)}`);
    }
  }
  return removed;
}
