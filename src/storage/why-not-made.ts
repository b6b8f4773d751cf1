import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf, isMissing } from "../lib/errno.ts";
import { isFolder } from "../lib/make-folders.ts";

/**
 * Why a folder could not be made, or null when nothing above it explains that. Node's recursive mkdir reports a read-only file system as
 * ENOENT of the folder that it was to make.
 */
export async function whyNotMade(path: string): Promise<string | null> {
  const above = await nearestExisting(dirname(path));
  // A file where a folder should be says so itself.
  if (!(await isFolder(above))) return null;
  try {
    await access(above, constants.W_OK | constants.X_OK);
    return null;
  } catch (thrown) {
    const errno = errnoOf(thrown);
    if (errno !== "EROFS" && errno !== "EACCES") return null;
    const user = process.getuid?.() ?? "of this process";
    const what = errno === "EROFS" ? `${above} is read-only here` : `user ${user} may not write in ${above}`;
    return `it does not exist and cannot be made: ${what}; make it and give it to user ${user}. A systemd unit may write only in its StateDirectory (file:///var/lib/dryapi/objects of the shipped units) and in what ReadWritePaths= names`;
  }
}

async function nearestExisting(path: string): Promise<string> {
  try {
    await stat(path);
    return path;
  } catch (thrown) {
    if (!isMissing(thrown) || dirname(path) === path) return path;
    return nearestExisting(dirname(path));
  }
}
