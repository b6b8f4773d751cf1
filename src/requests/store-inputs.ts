import { open, stat } from "node:fs/promises";
import { sha256File } from "../lib/sha256-file.ts";
import { AppError } from "../protocol/error.ts";
import type { JobInput } from "../protocol/job.ts";
import type { ObjectStore } from "../storage/object-store.ts";
import type { FileKind } from "../core/task-fields.ts";
import { mediaType } from "./media-type.ts";

/** A file on this machine that goes into a request. */
export interface InputFile {
  /** Field it came in: `image`, `images[0]` ... */
  readonly name: string;
  readonly path: string;
  /** What it has to be. */
  readonly kind?: FileKind;
}

/** Uploads beyond this are refused before they are read: no file that a model takes is so large. */
export const MAX_INPUT_BYTES: number = 64 * 1024 * 1024;

export interface StoreInputsOptions {
  readonly signal?: AbortSignal | undefined;
  /** Leave what was stored when a later file fails: somebody else may need it. */
  readonly keepOnFailure?: boolean;
}

/**
 * Puts the files of a request under `inputs/<id>/`. When one fails, those before it are taken away again.
 * @throws AppError INPUT_MISSING | IMAGE_UNREADABLE | MEDIA_UNREADABLE | INPUT_TOO_LARGE that name field and path, STORAGE_*
 */
export async function storeInputs(
  store: ObjectStore,
  id: string,
  files: readonly InputFile[],
  { signal, keepOnFailure = false }: StoreInputsOptions = {},
): Promise<readonly JobInput[]> {
  const call = signal === undefined ? {} : { signal };
  const inputs: JobInput[] = [];
  try {
    for (const [index, file] of files.entries()) {
      const found = await examine(file);
      const { sha256, sizeBytes } = await sha256File(file.path, call);
      const key = `inputs/${id}/${index}.${found.extension}`;
      await store.put(key, file.path, { ...call, contentType: found.contentType, sha256, sizeBytes });
      inputs.push({ name: file.name, key, contentType: found.contentType, sizeBytes, sha256 });
    }
    return inputs;
  } catch (thrown) {
    // The failure is what the caller must hear about; what is left over falls to the retention.
    if (inputs.length > 0 && !keepOnFailure) await store.deletePrefix(`inputs/${id}/`).catch(() => undefined);
    throw thrown;
  }
}

const FORMATS: Readonly<Record<FileKind, string>> = {
  image: "PNG, JPEG, WebP, GIF, AVIF, BMP or TIFF image",
  audio: "WAV, MP3, FLAC, Ogg, AAC or M4A audio file",
  video: "MP4, MOV, WebM, Matroska or AVI video",
};

async function examine({ name, path, kind }: InputFile): Promise<{ readonly contentType: string; readonly extension: string }> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new AppError("INPUT_MISSING", `${name}: ${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
      field: name,
    });
  });
  if (!found.isFile()) throw new AppError("INPUT_MISSING", `${name}: ${path} is not a file`, { field: name });
  if (found.size > MAX_INPUT_BYTES) {
    const detail = `It has ${found.size} bytes, at most ${MAX_INPUT_BYTES} are taken.`;
    throw new AppError("INPUT_TOO_LARGE", `${name}: ${path} has ${found.size} bytes, at most ${MAX_INPUT_BYTES} are taken`, {
      field: name,
      detail,
    });
  }
  await using handle = await open(path);
  const head = Buffer.alloc(16);
  await handle.read(head, 0, head.length, 0);
  const type = mediaType(head);
  const wanted = kind ?? "image";
  if (type !== null && (kind ?? type.kind) === type.kind) return type;
  throw new AppError(wanted === "image" ? "IMAGE_UNREADABLE" : "MEDIA_UNREADABLE", `${name}: ${path} is no ${FORMATS[wanted]}`, {
    field: name,
    detail: `Expected is a ${FORMATS[wanted]}.`,
  });
}
