import { realpathSync } from "node:fs";
import { join } from "node:path";
import { PACKAGE_DIR } from "../config/package-info.ts";
import { findProgram, pathFolders } from "../lib/find-program.ts";

type Env = Readonly<Record<string, string | undefined>>;

const LAUNCHER: string = join(PACKAGE_DIR, "scripts", "dryapi.mjs");

/**
 * How a shell on this machine starts this very program again: `dryapi` where the PATH leads to it, else the launcher's whole path. Never
 * `npx dryapi`: where nothing of that name is installed, npx asks a registry for it and would run whatever bears the name there.
 */
export function ownCommand(env: Env, launcher: string = LAUNCHER): string {
  // npm and npx put such folders into the PATH of what they start, not into that of the shell that they were typed in.
  const folders = pathFolders(env).filter((folder) => !/[/\\]node_modules[/\\]\.bin[/\\]?$/.test(folder));
  const found = findProgram("dryapi", folders);
  return found !== null && real(found) === real(launcher) ? "dryapi" : quoted(launcher);
}

/** For a shell. */
export function quoted(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function real(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}
