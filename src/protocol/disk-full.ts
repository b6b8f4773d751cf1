import { isNoSpace } from "../lib/errno.ts";
import { AppError } from "./error.ts";

/** How libvips and ffmpeg say it, who have no error numbers for us. */
const WORDS = /No space left on device|Disk quota exceeded/;

/**
 * SPOOL_FULL where a failure comes, however deep, from a disk without room: then the machine is to blame, whatever the code that noticed
 * it took it for. Null for any other failure.
 */
export function diskFull(thrown: unknown): AppError | null {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof AppError && error.code === "SPOOL_FULL") return error;
    if (!isNoSpace(error) && (error instanceof AppError || !WORDS.test(error.message))) continue;
    const text = `${(thrown as Error).message}: free space in the spool's file system, or in the folder for temporary files`;
    return new AppError("SPOOL_FULL", text, { cause: thrown });
  }
  return null;
}
