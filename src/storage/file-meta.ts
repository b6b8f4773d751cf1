import { extname } from "node:path";
import { z } from "zod";

const metaSchema = z.object({
  contentType: z.string(),
  sha256: z.string(),
  sizeBytes: z.number(),
  /** Percent-encoded, as in S3. */
  metadata: z.record(z.string(), z.string()),
});

/** What a file system does not keep, in `.<name>.meta` beside an object. */
export type FileMeta = z.infer<typeof metaSchema>;

const TYPES: Readonly<Record<string, string>> = {
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".webp": "image/webp",
  ".gif": "image/gif",
  ".wav": "audio/wav",
  ".mp3": "audio/mpeg",
  ".flac": "audio/flac",
  ".ogg": "audio/ogg",
  ".mp4": "video/mp4",
  ".webm": "video/webm",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
};

/** For files that a person put into the folder: by extension. */
export function contentTypeOf(name: string): string {
  return TYPES[extname(name).toLowerCase()] ?? "application/octet-stream";
}

/** Null for a damaged sidecar, and for one of another size than the object: it was left by an overwrite that a crash cut in two. */
export function parseFileMeta(text: string, sizeBytes: number): FileMeta | null {
  try {
    const parsed = metaSchema.safeParse(JSON.parse(text));
    return parsed.success && parsed.data.sizeBytes === sizeBytes ? parsed.data : null;
  } catch {
    return null;
  }
}
