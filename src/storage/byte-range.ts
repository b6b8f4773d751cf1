import { AppError } from "../protocol/error.ts";
import type { ByteRange } from "./object-store.ts";

/** The HTTP `Range` of a byte range. @throws AppError INVALID_INPUT when it is not one */
export function checkRange(range: ByteRange): string {
  const { start, end } = range;
  if (!Number.isSafeInteger(start) || start < 0 || (end !== undefined && (!Number.isSafeInteger(end) || end < start))) {
    throw new AppError("INVALID_INPUT", `byte range ${start}-${end ?? ""} is not valid; expected 0 <= start <= end`);
  }
  return `bytes=${start}-${end ?? ""}`;
}
