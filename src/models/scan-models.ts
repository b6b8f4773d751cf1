import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { checkManifest } from "../core/check-manifest.ts";
import { isMissing } from "../lib/errno.ts";
import { graphBytes } from "../lib/graph-bytes.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import { ContentChecks } from "./content-checks.ts";
import { checkModelFolder, missingOfNothing, type FileProblem } from "./model-files.ts";

/**
 *   available   every file that its family opens is there and looks whole
 *   missing     files are missing (`problems` names each)
 *   corrupt     a file is cut off, of the wrong size, content or sha256, or a runner found it damaged
 *   unsupported its files are whole, and this version cannot use them: a runner said so, or the weights lie where none may
 *   unequipped  its files are whole, and this machine lacks a program that it needs, or the memory
 *   invalid     the manifest itself cannot be used
 */
export const MODEL_STATES = ["available", "missing", "corrupt", "unsupported", "unequipped", "invalid"] as const;
export type ModelState = (typeof MODEL_STATES)[number];

export interface ModelEntry {
  readonly slug: string;
  readonly state: ModelState;
  readonly manifest: Manifest;
  readonly manifestPath: string;
  /** Absolute folder that holds the model's files. */
  readonly dir: string;
  /** From the package's own folder, not an operator's. */
  readonly shipped: boolean;
  readonly problems: readonly FileProblem[];
  /** Bytes of the files of each part that the manifest names (lib/graph-bytes.ts). Without a part of which a file is missing. */
  readonly partBytes: Readonly<Record<string, number>>;
}

export interface InvalidModel {
  readonly state: "invalid";
  /** Folder name: the slug may be what is wrong. */
  readonly slug: string;
  readonly manifestPath: string;
  readonly error: AppError;
}

export interface ModelFolders {
  /** The package's `models/` folder. */
  readonly shippedDir: string;
  /** DRYAPI_MODELS_DIR, in order of precedence. */
  readonly modelDirs: readonly string[];
  /** Files of models whose manifests lie elsewhere may be here, behind all others; it need not be there. */
  readonly pulledDir?: string;
  /** Asked about each model whose files are whole. Left out where models are only described, not run. */
  readonly missingPrograms?: (manifest: Manifest) => Promise<readonly FileProblem[]>;
  /** The same for the memory of devices; null when one can hold it. */
  readonly whyUnfit?: (manifest: Manifest, partBytes: ModelEntry["partBytes"]) => string | null;
}

export interface ScanOptions extends ModelFolders {
  /** Remembers what was looked into; nothing is remembered without it. */
  readonly content?: ContentChecks;
}

export interface ModelScan {
  readonly models: ReadonlyMap<string, ModelEntry>;
  readonly invalid: readonly InvalidModel[];
  /** What an operator should know: overridden manifests, folders that cannot be read. */
  readonly notes: readonly string[];
  /** Folders of `modelDirs` that give nothing, with the reason: a wrong path, or a disk that is not mounted. */
  readonly idleDirs: ReadonlyMap<string, string>;
}

interface FoundManifest {
  readonly manifest: Manifest;
  readonly manifestPath: string;
  readonly shipped: boolean;
}

/** Reads all manifests and checks their files cheaply. Never throws for one bad model or folder. */
export async function scanModels(folders: ScanOptions): Promise<ModelScan> {
  const invalid: InvalidModel[] = [];
  const notes: string[] = [];
  const idleDirs = new Map<string, string>();
  const found = new Map<string, FoundManifest>();
  const roots = [...folders.modelDirs.map((root) => ({ root, shipped: false })), { root: folders.shippedDir, shipped: true }];
  for (const { root, shipped } of roots) {
    const { paths, problem } = await listManifests(root);
    if (problem !== null) idleDirs.set(root, problem);
    for (const manifestPath of paths) {
      try {
        const manifest = parseManifest(await readJson(manifestPath), manifestPath);
        checkManifest(manifest, manifestPath);
        const earlier = found.get(manifest.slug);
        if (earlier === undefined) found.set(manifest.slug, { manifest, manifestPath, shipped });
        else notes.push(`model ${manifest.slug}: ${earlier.manifestPath} is used, ${manifestPath} is ignored`);
      } catch (thrown) {
        const slug = dirname(manifestPath).split("/").at(-1) ?? manifestPath;
        invalid.push({
          state: "invalid",
          slug,
          manifestPath,
          error: asAppError(thrown, "MANIFEST_INVALID"),
        });
      }
    }
  }
  const models = new Map<string, ModelEntry>();
  for (const [slug, manifest] of found) models.set(slug, await locate(manifest, folders));
  // A folder may hold weights alone, of manifests that lie elsewhere.
  const inUse = new Set([...models.values()].map(({ dir }) => dirname(dir)));
  for (const [root, problem] of idleDirs) {
    if (inUse.has(root)) idleDirs.delete(root);
    else notes.push(`model folder ${root} ${problem}`);
  }
  return { models, invalid, notes, idleDirs };
}

/** `problem`: why there is none, to be read after the folder's name. */
async function listManifests(root: string): Promise<{ readonly paths: readonly string[]; readonly problem: string | null }> {
  try {
    const names = (await readdir(root)).toSorted();
    const paths = names.filter((name) => !name.startsWith(".")).map((name) => join(root, name, "model.json"));
    const present = await Promise.all(paths.map(exists));
    const manifests = paths.filter((_, index) => present[index]);
    if (manifests.length > 0) return { paths: manifests, problem: null };
    const isModel = await exists(join(root, "model.json"));
    return {
      paths: [],
      problem: isModel
        ? "is the folder of one model: name the folder above it"
        : "holds no model: no folder in it has a model.json or is named like a model of the package",
    };
  } catch (thrown) {
    return { paths: [], problem: `cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}` };
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (thrown) {
    // Anything but absence is a manifest that is there and cannot be read: reported when it is parsed.
    return !isMissing(thrown);
  }
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new AppError("MANIFEST_INVALID", `${path} cannot be read: ${String(cause)}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError("MANIFEST_INVALID", `${path} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** The weights lie beside the manifest or in `<model dir>/<slug>`: the first folder with nothing wrong, else the one with least missing. */
async function locate(
  found: FoundManifest,
  { modelDirs, pulledDir, missingPrograms, whyUnfit, content = new ContentChecks() }: ScanOptions,
): Promise<ModelEntry> {
  const { manifest } = found;
  const candidates = [
    ...new Set([
      dirname(found.manifestPath),
      ...[...modelDirs, ...(pulledDir === undefined ? [] : [pulledDir])].map((dir) => join(dir, manifest.slug)),
    ]),
  ];
  let best: { dir: string; problems: readonly FileProblem[]; missing: number } | null = null;
  for (const dir of candidates) {
    const { problems } = await checkModelFolder(dir, manifest, content);
    const missing = problems.filter((problem) => problem.kind === "missing").length;
    if (best === null || missing < best.missing || (missing === best.missing && problems.length < best.problems.length)) {
      best = { dir, problems, missing };
    }
    if (problems.length === 0) break;
  }
  const dir = best?.dir ?? dirname(found.manifestPath);
  const ofFiles = best?.problems ?? [];
  const partBytes = await sizesOf(dir, manifest);
  const unfit = ofFiles.length === 0 ? (whyUnfit?.(manifest, partBytes) ?? null) : null;
  const lacks: readonly FileProblem[] = unfit === null ? [] : [{ file: "memory", kind: "memory", message: unfit, code: "DOES_NOT_FIT" }];
  const problems = ofFiles.length === 0 ? [...((await missingPrograms?.(manifest)) ?? []), ...lacks] : ofFiles;
  return { ...found, slug: manifest.slug, dir, problems, state: stateOf(problems), partBytes };
}

async function sizesOf(dir: string, { parts }: Manifest): Promise<Readonly<Record<string, number>>> {
  const sizes = Object.entries(parts).map(async ([name, { file, externalData }]) => {
    const data = externalData.map((each) => join(dir, each.file));
    return [name, await graphBytes(join(dir, file), data)] as const;
  });
  return Object.fromEntries((await Promise.all(sizes)).flatMap(([name, bytes]) => (bytes === null ? [] : [[name, bytes]])));
}

export function stateOf(problems: readonly FileProblem[]): ModelState {
  if (problems.length === 0) return "available";
  if (problems.some((problem) => problem.kind === "missing")) return "missing";
  if (problems.some((problem) => problem.kind === "corrupt")) return "corrupt";
  return problems.some((problem) => problem.kind === "unsupported") ? "unsupported" : "unequipped";
}

/** A manifest that came with the package, and not one file of the model: nobody has fetched it. A part of them would be a broken fetch. */
export function isAbsent({ shipped, state, problems, manifest }: ModelEntry): boolean {
  return shipped && state === "missing" && problems.length === missingOfNothing(manifest);
}
