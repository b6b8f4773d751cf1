import { stat } from "node:fs/promises";
import { join } from "node:path";
import { familyFiles, layoutOf, type FamilyFile, type FileSpec } from "../core/family-layout.ts";
import { isMissing } from "../lib/errno.ts";
import { firstWhole, isThere } from "../lib/first-whole.ts";
import type { ErrorCode } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { disguiseOf } from "./check-content.ts";
import { readPullRecord } from "./pull/pull-record.ts";
import type { ContentChecks } from "./content-checks.ts";

/** A file (or folder, for `files` of a manifest) that a model needs. */
export interface ModelFile {
  /** Relative to the model's folder. */
  readonly file: string;
  /** Role in the manifest, e.g. `transformer`, `transformer data`, `tokenizer`. */
  readonly role: string;
  readonly sizeBytes?: number;
  readonly sha256?: string;
  /** What the family expects in it; absent for what only the manifest names. */
  readonly spec?: FileSpec;
}

export interface FileProblem {
  readonly file: string;
  /**
   * `missing`: it is not there; `corrupt`: it is not what it should be; `unsupported`: it is whole, and this program cannot use it;
   * `program`: a program that the model needs, `file` is its name; `memory`: no device of this machine can hold it.
   */
  readonly kind: "missing" | "corrupt" | "unsupported" | "program" | "memory";
  /** A sentence that names the file, what was found, what was expected and what to do. */
  readonly message: string;
  /** What a runner said when it could not load the model; absent where the kind says it all. */
  readonly code?: ErrorCode;
}

/** What is in a model's folder and what is wrong with it. */
export interface FolderCheck {
  /** Every file that the family opens or the manifest names, and that looks whole. */
  readonly files: readonly ModelFile[];
  readonly problems: readonly FileProblem[];
}

/** Everything that a manifest names, each once: graphs, their external data, files of roles that its family does not know. */
function namedFiles(manifest: Manifest): ReadonlyMap<string, ModelFile> {
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
  const known = layoutOf(manifest.family).files;
  for (const [role, file] of Object.entries(manifest.files)) if (!Object.hasOwn(known, role)) add(role, { file });
  return found;
}

/** What a pull found holds for files that the manifest does not pin. */
async function withPulledPins(dir: string, named: ReadonlyMap<string, ModelFile>): Promise<ReadonlyMap<string, Partial<ModelFile>>> {
  const record = await readPullRecord(dir);
  const pulled = (record?.files ?? []).map(({ file, sizeBytes, sha256 }) => [file, { sizeBytes, sha256, ...named.get(file) }] as const);
  return new Map<string, Partial<ModelFile>>([...named, ...pulled]);
}

/** Named by the manifest alone: the family's own table does not say what is in it. */
function otherFiles(manifest: Manifest, ofFamily: readonly FamilyFile[]): readonly ModelFile[] {
  const covered = new Set(ofFamily.flatMap(({ sets }) => sets.flatMap((set) => set.map(({ file }) => file))));
  return [...namedFiles(manifest).values()].filter(({ file }) => !covered.has(file));
}

/** How many problems a folder has in which there is nothing. */
export function missingOfNothing(manifest: Manifest): number {
  const ofFamily = familyFiles(manifest);
  return ofFamily.filter(({ required }) => required).length + otherFiles(manifest, ofFamily).length;
}

/**
 * The cheap check of a folder, as the model's family will open it: every file is there, of its size where that is pinned, and what its role
 * asks for (check-content.ts). No weights are read.
 */
export async function checkModelFolder(dir: string, manifest: Manifest, content: ContentChecks): Promise<FolderCheck> {
  const ofFamily = familyFiles(manifest);
  const named = await withPulledPins(dir, namedFiles(manifest));
  const files: ModelFile[] = [];
  const problems: FileProblem[] = [];
  for (const wanted of ofFamily) {
    const set = await firstWhole(dir, wanted.sets);
    if (set !== null) for (const spec of set) files.push({ file: spec.file, role: wanted.role, spec });
    else if (wanted.required) problems.push(await missingProblem(dir, manifest, wanted));
  }
  const sound: ModelFile[] = [];
  for (const found of [...files, ...otherFiles(manifest, ofFamily)]) {
    const file: ModelFile = { ...named.get(found.file), ...found };
    const problem = await checkModelFile(dir, file, content).catch((thrown: unknown): FileProblem => {
      const text = thrown instanceof Error ? thrown.message : String(thrown);
      return { file: file.file, kind: "corrupt", message: `${join(dir, file.file)} (${file.role}) cannot be read: ${text}` };
    });
    if (problem === null) sound.push(file);
    else problems.push(problem);
  }
  return { files: sound, problems };
}

/** Names what is not there of the set of which most is. */
async function missingProblem(dir: string, { slug, source, pull }: Manifest, wanted: FamilyFile): Promise<FileProblem> {
  const sets = await Promise.all(
    wanted.sets.map(async (set) => {
      const there = await Promise.all(set.map(({ file }) => isThere(join(dir, file))));
      const absent = set.filter((_, index) => there[index] !== true).map(({ file }) => file);
      return { absent, present: set.length - absent.length };
    }),
  );
  const [nearest] = sets.toSorted((a, b) => a.absent.length - b.absent.length || b.present - a.present);
  const file = nearest?.absent[0] ?? "";
  const others = wanted.sets.map((set) => set.map((spec) => spec.file).join(" with "));
  const either = others.length > 1 ? `; expected ${others.join(", or ")}` : "";
  const how = pull === undefined ? `fetch it from ${source.repository}` : `get it with dryapi models pull ${slug}`;
  const advice = wanted.advice === undefined ? "" : `, or ${wanted.advice}`;
  return {
    file,
    kind: "missing",
    message: `${join(dir, file)} (${wanted.role}) does not exist${either}: ${how}${advice}, or say where it is in ${wanted.key} of model.json`,
  };
}

/** Null when nothing is wrong. Rejects with the file system's error. */
async function checkModelFile(dir: string, wanted: ModelFile, content: ContentChecks): Promise<FileProblem | null> {
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
  if (found === null) return problem("missing", "does not exist: fetch it from the model's source");
  if (found.isDirectory()) {
    const isFile = wanted.sizeBytes !== undefined || wanted.sha256 !== undefined || wanted.spec !== undefined;
    return isFile ? problem("corrupt", "is a folder, expected a file") : null;
  }
  if (wanted.sizeBytes !== undefined && found.size !== wanted.sizeBytes) {
    const disguise = await disguiseOf(path);
    const how = found.size < wanted.sizeBytes ? "truncated, or another version" : "another version";
    return problem("corrupt", disguise ?? `has ${found.size} bytes, the manifest says ${wanted.sizeBytes}: ${how}; fetch it again`);
  }
  if (wanted.spec !== undefined) {
    const wrong = await content.check(path, wanted.spec);
    return wrong === null ? null : problem(wrong.kind, wrong.text);
  }
  const disguise = found.size < SMALL_BYTES ? await disguiseOf(path) : null;
  return disguise === null ? null : problem("corrupt", disguise);
}

/** Files of unknown content that are larger are no page and no pointer. */
const SMALL_BYTES = 64 * 1024;
