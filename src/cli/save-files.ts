import { readFile } from "node:fs/promises";
import { extname, join, resolve } from "node:path";
import type { ResultFile } from "../protocol/result.ts";
import { makeFolders } from "../lib/make-folders.ts";
import type { ObjectStore } from "../storage/object-store.ts";

export interface SavedFile {
  readonly name: string;
  readonly role: string;
  readonly path: string;
  readonly url: string | null;
  readonly content_type: string;
  readonly size_bytes: number;
  readonly sha256: string;
}

/** S3's longest life of a signed link. */
const MAX_LINK_MS = 7 * 86_400_000;

/** A page or two; longer texts are in their file. */
const MAX_SHOWN_BYTES = 8_192;

export interface SaveOptions {
  readonly id: string;
  readonly outDir: string;
  readonly storeUrl: string;
  readonly retentionMs: number;
  readonly signal: AbortSignal;
}

/** Downloads the files of a result as `<id>.<ext>` (others of the same kind as `<id>-<name>`), checked against their sha256. */
export async function saveFiles(store: ObjectStore, files: readonly ResultFile[], options: SaveOptions): Promise<readonly SavedFile[]> {
  await makeFolders(options.outDir);
  const taken = new Set<string>();
  const saved: SavedFile[] = [];
  for (const file of files.toSorted((a, b) => Number(b.role === "main") - Number(a.role === "main"))) {
    const short = `${options.id}${extname(file.name)}`;
    const name = file.role === "extra" || taken.has(short) ? `${options.id}-${file.name}` : short;
    taken.add(name);
    const path = resolve(options.outDir, name);
    await store.getToFile(file.key, path, { maxBytes: file.sizeBytes, sha256: file.sha256, signal: options.signal });
    const url = await resultUrl(store, file, options);
    saved.push({
      name: file.name,
      role: file.role,
      path,
      url,
      content_type: file.contentType,
      size_bytes: file.sizeBytes,
      sha256: file.sha256,
    });
  }
  return saved;
}

/** What a terminal can show of a result: a short text, as transcription makes it. Null for all else, which is for a player. */
export async function shownText(files: readonly SavedFile[]): Promise<string | null> {
  const main = files.find(({ role }) => role === "main");
  if (main === undefined || !main.content_type.startsWith("text/plain") || main.size_bytes > MAX_SHOWN_BYTES) return null;
  return (await readFile(main.path, "utf8")).trimEnd();
}

/** A link to a stored file: signed for an s3: store, the file's own place for a file: store. */
export async function resultUrl(
  store: ObjectStore,
  file: ResultFile,
  options: Pick<SaveOptions, "id" | "storeUrl" | "retentionMs">,
): Promise<string | null> {
  const signed = await store.presign(file.key, {
    expiresInMs: Math.min(options.retentionMs, MAX_LINK_MS),
    downloadName: `${options.id}${extname(file.name)}`,
  });
  if (signed !== null) return signed;
  const base = new URL(options.storeUrl);
  if (base.protocol !== "file:") return null;
  base.pathname = join(base.pathname, file.key);
  return base.href;
}
