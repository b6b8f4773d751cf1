import { open, type FileHandle } from "node:fs/promises";
import { AppError } from "../protocol/error.ts";

/** Opens a file that is to be uploaded. @throws AppError BAD_OUTPUT when it is not there, no plain file, or not `sizeBytes` long */
export async function openSource(path: string, sizeBytes: number): Promise<FileHandle> {
  const file = await open(path, "r").catch((cause: unknown) => {
    throw new AppError("BAD_OUTPUT", `${path} cannot be read for the upload: ${String(cause)}`, { cause });
  });
  const found = await file.stat();
  if (found.isFile() && found.size === sizeBytes) return file;
  await file.close();
  throw new AppError("BAD_OUTPUT", `${path} ${found.isFile() ? `has ${found.size} bytes, expected ${sizeBytes}` : "is not a plain file"}`);
}
