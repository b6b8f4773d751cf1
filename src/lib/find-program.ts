import { accessSync, constants } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";

/** Folders of the PATH; relative ones are not searched: where they lead depends on the working folder. */
export function pathFolders(env: Readonly<Record<string, string | undefined>> = process.env): readonly string[] {
  return (env["PATH"] ?? "").split(delimiter).filter(isAbsolute);
}

/** Path of an executable in these folders; null when there is none. */
export function findProgram(name: string, folders: readonly string[] = pathFolders()): string | null {
  return folders.map((folder) => join(folder, name)).find(isExecutable) ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
