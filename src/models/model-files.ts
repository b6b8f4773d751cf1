import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "../lib/errno.ts";
import type { ErrorCode } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";

/** A file (or folder, for `files` of a manifest) that a model needs. */
export interface ModelFile {
  /** Relative to the model's folder. */
  readonly file: string;
  /** Role in the manifest, e.g. `transformer`, `transformer data`, `tokenizer`. */
  readonly role: string;
  readonly sizeBytes?: number;
  readonly sha256?: string;
}

export interface FileProblem {
  readonly file: string;
  /** `program`: a program that the model needs; `file` is its name. `memory`: no device of this machine can hold it. */
  readonly kind: "missing" | "corrupt" | "program" | "memory";
  /** A sentence that names the file, what was found and what was expected. */
  readonly message: string;
  /** What a runner said when it could not load the model; absent where the kind says it all. */
  readonly code?: ErrorCode;
}

/** Everything that a manifest names, each once: graphs, their external data, other files and folders. */
export function modelFiles(manifest: Manifest): readonly ModelFile[] {
  const found = new Map<string, ModelFile>();
  const add = (role: string, pinned: { file: string; sizeBytes?: number | undefined; sha256?: string | undefined }): void => {
    if (found.has(pinned.file)) return;
    found.set(pinned.file, {
      file: pinned.file,
      role,
      ...(pinned.sizeBytes === undefined ? {} : { sizeBytes: pinned.sizeBytes }),
      ...(pinned.sha256 === undefined ? {} : { sha256: pinned.sha256 }),
    });
  };
  for (const [role, part] of Object.entries(manifest.parts)) {
    add(role, part);
    for (const data of part.externalData) add(`${role} data`, data);
  }
  for (const [role, file] of Object.entries(manifest.files)) add(role, { file });
  return [...found.values()];
}

/**
 * The cheap check: does the file exist and does its size fit? Reads at most 64 bytes (of files under 1 KiB, to recognise a Git LFS
 * pointer that was never replaced by the file it stands for). Null when nothing is wrong.
 */
export async function checkModelFile(dir: string, wanted: ModelFile): Promise<FileProblem | null> {
  const path = join(dir, wanted.file);
  const problem = (kind: FileProblem["kind"], text: string): FileProblem => ({
    file: wanted.file,
    kind,
    message: `${path} (${wanted.role}) ${text}`,
  });
  const found = await stat(path).catch((thrown: unknown) => {
    if (isMissing(thrown)) return null;
    throw thrown;
  });
  if (found === null) return problem("missing", "does not exist");
  if (found.isDirectory()) {
    return wanted.sizeBytes === undefined && wanted.sha256 === undefined ? null : problem("corrupt", "is a folder, expected a file");
  }
  if (found.size < 1024 && (await isLfsPointer(path))) {
    return problem("corrupt", "is a Git LFS pointer, not the file itself: run `git lfs pull` where it came from, or download the file");
  }
  if (found.size === 0) return problem("corrupt", "is empty");
  if (wanted.sizeBytes !== undefined && found.size !== wanted.sizeBytes) {
    const how = found.size < wanted.sizeBytes ? "truncated, or another version" : "another version";
    return problem("corrupt", `has ${found.size} bytes, the manifest says ${wanted.sizeBytes}: ${how}; fetch it again`);
  }
  return null;
}

async function isLfsPointer(path: string): Promise<boolean> {
  const handle = await open(path, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(64), 0, 64, 0);
    return buffer.toString("latin1", 0, bytesRead).startsWith("version https://git-lfs");
  } finally {
    await handle.close();
  }
}
