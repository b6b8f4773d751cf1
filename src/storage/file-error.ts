import { errnoOf, isNoSpace } from "../lib/errno.ts";
import { AppError } from "../protocol/error.ts";

/** Errors that stay until somebody changes permissions, the mount or what lies at the path. */
const LASTING = new Set(["EACCES", "EPERM", "EROFS", "ELOOP", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ENOTEMPTY"]);

/** A file system's error as what it means for an object store. `path` names the place. */
export function asFileStoreError(thrown: unknown, verb: string, path: string): AppError {
  if (thrown instanceof AppError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  if (isNoSpace(thrown))
    return new AppError("STORAGE_UNAVAILABLE", `${verb} ${path}: the disk is full (${text}); free space on it`, { cause: thrown });
  const lasting = LASTING.has(errnoOf(thrown) ?? "");
  return new AppError(lasting ? "STORAGE_REJECTED" : "STORAGE_UNAVAILABLE", `${verb} ${path}: ${text}`, { cause: thrown });
}
