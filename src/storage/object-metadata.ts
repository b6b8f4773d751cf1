import { AppError } from "../protocol/error.ts";

const NAME = /^[a-z0-9][a-z0-9-]{0,63}$/;
const MAX_ENCODED_CHARS = 1_024;

/** HTTP headers are ASCII: values go percent-encoded. @throws AppError INVALID_INPUT for a bad name or more than 1 KiB */
export function encodeMetadata(metadata: Readonly<Record<string, string>> = {}): Record<string, string> {
  const encoded: Record<string, string> = {};
  let chars = 0;
  for (const [name, value] of Object.entries(metadata)) {
    if (!NAME.test(name) || name === "sha256")
      throw new AppError("INVALID_INPUT", `object metadata name ${JSON.stringify(name)} is not allowed`);
    encoded[name] = encodeURIComponent(value.toWellFormed());
    chars += name.length + encoded[name].length;
  }
  if (chars > MAX_ENCODED_CHARS)
    throw new AppError("INVALID_INPUT", `object metadata has ${chars} characters encoded, at most ${MAX_ENCODED_CHARS} are kept`);
  return encoded;
}

/** Values that others wrote, not percent-encoded, stay as they are. */
export function decodeMetadata(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const decode = (value: string): string => {
    try {
      return decodeURIComponent(value);
    } catch {
      return value;
    }
  };
  return Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, decode(value)]));
}
