import { mediaType } from "../../requests/media-type.ts";
import { readHead } from "./read-head.ts";
import type { Upload } from "./upload.ts";

const MIB = 1024 * 1024;
/** Most bytes and what is taken. */
const LIMITS = {
  audio: { maxMib: 20, formats: "mp3, wav, flac, ogg, aac, m4a" },
  video: { maxMib: 50, formats: "mp4, mov, webm, mkv, avi" },
} as const;
const HEAD_BYTES = 16;

/** Judges sound or film by its first bytes and its size; null when it is fine, else what completes "The x field ...". */
export async function checkMedia(
  { path, sizeBytes }: Pick<Upload, "path" | "sizeBytes">,
  kind: keyof typeof LIMITS,
): Promise<string | null> {
  const { maxMib, formats } = LIMITS[kind];
  if (sizeBytes > maxMib * MIB) return `must not be greater than ${maxMib} MB.`;
  const type = mediaType(await readHead(path, HEAD_BYTES));
  return type?.kind === kind ? null : `must be a file of type: ${formats}.`;
}
