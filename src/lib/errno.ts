/** The `code` of a Node system error ("ENOENT", "ECONNREFUSED" ...), undefined for anything else. */
export function errnoOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || !("code" in thrown)) return undefined;
  return typeof thrown.code === "string" ? thrown.code : undefined;
}

const NO_SPACE: ReadonlySet<string | undefined> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** True when the disk, the quota or the inodes are used up, or the file may not grow further here. */
export function isNoSpace(thrown: unknown): boolean {
  return NO_SPACE.has(errnoOf(thrown));
}

/** True when a path does not exist (also when a file stands where a folder was expected). */
export function isMissing(thrown: unknown): boolean {
  const code = errnoOf(thrown);
  return code === "ENOENT" || code === "ENOTDIR";
}
