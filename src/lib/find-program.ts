import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Path of an executable in these folders, by default those of the PATH; null when there is none. */
export function findProgram(name: string, dirs: readonly string[] = (process.env["PATH"] ?? "").split(delimiter)): string | null {
  for (const dir of dirs) {
    const path = join(dir, name);
    if (dir !== "" && isExecutable(path)) return path;
  }
  return null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
