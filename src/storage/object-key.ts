import { AppError } from "../protocol/error.ts";

const MAX_KEY_BYTES = 900;
/** File names end at 255 bytes on Linux; the rest is for the endings of sidecars and unfinished files. */
const MAX_SEGMENT_BYTES = 200;
/** No leading dot: `.` and `..` never occur and dot-names are free for a store's own files. Anything printable else, but no backslash. */
// oxlint-disable-next-line no-control-regex -- control characters are what it refuses
const SEGMENT = /^[^./\\\u0000-\u001f\u007f][^/\\\u0000-\u001f\u007f]*$/;

/**
 * Checks an object key: `/`-separated segments, none empty, none starting with a dot, no backslash or control character, at most 900 bytes
 * (S3 takes 1024, a prefix may come before it).
 * @throws AppError INVALID_INPUT that names the key
 */
export function checkKey(key: string): string {
  if (Buffer.byteLength(key) > MAX_KEY_BYTES) {
    throw new AppError("INVALID_INPUT", `object key ${JSON.stringify(key.slice(0, 80))}... has more than ${MAX_KEY_BYTES} bytes`);
  }
  for (const segment of key.split("/")) {
    if (!SEGMENT.test(segment) || Buffer.byteLength(segment) > MAX_SEGMENT_BYTES) {
      throw new AppError(
        "INVALID_INPUT",
        `object key ${JSON.stringify(key)}: segment ${JSON.stringify(segment)} is not allowed; expected names between slashes that do not start with a dot, at most ${MAX_SEGMENT_BYTES} bytes each`,
      );
    }
  }
  return key;
}

/** Checks a key prefix: empty, or a key that may end in `/`. @throws AppError INVALID_INPUT */
export function checkPrefix(prefix: string): string {
  if (prefix !== "") checkKey(prefix.endsWith("/") ? prefix.slice(0, -1) : prefix);
  return prefix;
}
