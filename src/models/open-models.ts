import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { AppError, type ErrorCode } from "../protocol/error.ts";
import { DigestCache } from "./digest-cache.ts";
import { ContentChecks } from "./content-checks.ts";
import { checkModelFolder, type FileProblem, type ModelFile } from "./model-files.ts";
import { scanModels, stateOf, type InvalidModel, type ModelEntry, type ModelFolders, type ModelScan } from "./scan-models.ts";

export interface ModelsOptions extends ModelFolders {
  /** Folder for the digest cache. */
  readonly stateDir: string;
  /** Told what an operator should know (overridden manifests, invalid ones), once per change. */
  readonly onNote?: (message: string) => void;
}

export interface VerifyProgress {
  readonly file: string;
  readonly doneBytes: number;
  /** Bytes of all files that are hashed in this run. */
  readonly totalBytes: number;
}

export interface VerifyOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: VerifyProgress) => void;
}

export interface VerifyReport {
  readonly slug: string;
  readonly dir: string;
  /** Files that were hashed and are as pinned. */
  readonly verified: readonly string[];
  /** Files without a pinned sha256: they are there and look whole (check-content.ts); that no bit of them is wrong cannot be said. */
  readonly unpinned: readonly string[];
  readonly problems: readonly FileProblem[];
}

export interface RescanChange {
  /** Slugs whose entry appeared, vanished or differs (state, folder, manifest). */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly changed: readonly string[];
}

/** Scans the folders. @throws nothing for bad models or folders: they are reported and the others go on */
export async function openModels(options: ModelsOptions): Promise<Models> {
  const models = new Models(options);
  await models.rescan();
  return models;
}

/** The models on this machine: manifests, where their files are, and whether they can be used. */
export class Models {
  readonly #options: ModelsOptions;
  readonly #cache: DigestCache;
  readonly #content = new ContentChecks();
  #scan: ModelScan = { models: new Map(), invalid: [], notes: [], idleDirs: new Map() };
  /** What runners and full checks found out; forgotten when a rescan sees other files. */
  readonly #damage = new Map<string, { readonly fingerprint: string; readonly problems: readonly FileProblem[] }>();
  #told = new Set<string>();
  /** One look at a time: an older one must not overwrite what a newer one saw. */
  #scanning: Promise<unknown> = Promise.resolve();

  constructor(options: ModelsOptions) {
    this.#options = options;
    this.#cache = new DigestCache(join(options.stateDir, "model-digests.json"));
  }

  /** Sorted by slug. */
  list(): readonly ModelEntry[] {
    return [...this.#scan.models.values()].map((entry) => this.#withDamage(entry)).toSorted((a, b) => (a.slug < b.slug ? -1 : 1));
  }

  get(slug: string): ModelEntry | undefined {
    const entry = this.#scan.models.get(slug);
    return entry === undefined ? undefined : this.#withDamage(entry);
  }

  invalid(): readonly InvalidModel[] {
    return this.#scan.invalid;
  }

  /** Operators' folders in which there is no model now, by path with the reason. */
  idleDirs(): ReadonlyMap<string, string> {
    return this.#scan.idleDirs;
  }

  /** The entry of a model that can be loaded. @throws AppError MODEL_NOT_FOUND | MODEL_CORRUPT | MODEL_UNSUPPORTED | MANIFEST_INVALID that names every file */
  require(slug: string): ModelEntry {
    const entry = this.get(slug);
    if (entry?.state === "available") return entry;
    if (entry !== undefined) {
      throw unusableError(entry);
    }
    const invalid = this.#scan.invalid.find((model) => model.slug === slug);
    if (invalid !== undefined) throw invalid.error;
    const folders = [...this.#options.modelDirs, this.#options.shippedDir].join(", ");
    throw new AppError(
      "MODEL_NOT_FOUND",
      `model ${slug}: no manifest in ${folders}; known: ${[...this.#scan.models.keys()].join(", ") || "none"}`,
    );
  }

  /** Looks at the folders again: a model that was dropped in, repaired or removed is seen without a restart. */
  rescan(): Promise<RescanChange> {
    const scan = this.#scanning.then(() => this.#rescan());
    this.#scanning = scan.catch(() => undefined);
    return scan;
  }

  async #rescan(): Promise<RescanChange> {
    const before = new Map(this.list().map((entry) => [entry.slug, fingerprint(entry)]));
    this.#scan = await scanModels({ ...this.#options, content: this.#content });
    await this.#forgetRepaired();
    this.#tell();
    const now = new Map(this.list().map((entry) => [entry.slug, fingerprint(entry)]));
    return {
      added: [...now.keys()].filter((slug) => !before.has(slug)),
      removed: [...before.keys()].filter((slug) => !now.has(slug)),
      changed: [...now].filter(([slug, print]) => before.has(slug) && before.get(slug) !== print).map(([slug]) => slug),
    };
  }

  /**
   * Hashes every pinned file, whether or not it was hashed before, and sets the model's state accordingly.
   * @throws AppError MODEL_NOT_FOUND | MANIFEST_INVALID when there is nothing to check; damage is in the report, not thrown
   */
  async verify(slug: string, options: VerifyOptions = {}): Promise<VerifyReport> {
    return this.#check(slug, options, false);
  }

  /**
   * The check before a model is loaded: files as pinned, each hashed once and then again only after its size, time or inode changed.
   * @throws AppError MODEL_NOT_FOUND | MODEL_CORRUPT | MANIFEST_INVALID that names every file
   */
  async ensureVerified(slug: string, options: VerifyOptions = {}): Promise<ModelEntry> {
    this.require(slug);
    await this.#check(slug, options, true);
    return this.require(slug);
  }

  /** A runner could not load the model because of its files or its manifest: unavailable until a rescan sees others. */
  async markCorrupt(slug: string, message: string, code: ErrorCode = "MODEL_CORRUPT"): Promise<void> {
    const entry = this.#scan.models.get(slug);
    if (entry !== undefined) await this.#setDamage(entry, [{ file: "", kind: KINDS[code] ?? "corrupt", message, code }]);
  }

  async #check(slug: string, options: VerifyOptions, useCache: boolean): Promise<VerifyReport> {
    const entry = this.#scan.models.get(slug) ?? this.require(slug);
    const { files, problems: found } = await checkModelFolder(entry.dir, entry.manifest, this.#content);
    const problems: FileProblem[] = [...found];
    const pinned = files.filter(({ sha256 }) => sha256 !== undefined);
    const unpinned = files.filter(({ sha256 }) => sha256 === undefined).map(({ file }) => file);
    const wrong = await this.#hashAll(entry, pinned, options, useCache);
    problems.push(...wrong);
    const bad = new Set(wrong.map((problem) => problem.file));
    if (problems.length > 0) await this.#setDamage(entry, problems);
    else this.#damage.delete(slug);
    return {
      slug,
      dir: entry.dir,
      verified: pinned.map(({ file }) => file).filter((file) => !bad.has(file)),
      unpinned,
      problems,
    };
  }

  async #hashAll(entry: ModelEntry, files: readonly ModelFile[], options: VerifyOptions, useCache: boolean): Promise<FileProblem[]> {
    const problems: FileProblem[] = [];
    const totalBytes = files.reduce((sum, file) => sum + (file.sizeBytes ?? 0), 0);
    let earlierBytes = 0;
    for (const file of files) {
      const path = join(entry.dir, file.file);
      const sha256 =
        (useCache ? await this.#cache.recall(path) : null) ??
        (await this.#cache.compute(path, {
          ...(options.signal === undefined ? {} : { signal: options.signal }),
          onProgress: (bytes) => options.onProgress?.({ file: file.file, doneBytes: earlierBytes + bytes, totalBytes }),
        }));
      earlierBytes += file.sizeBytes ?? 0;
      if (sha256 === file.sha256) continue;
      const message = `${path} (${file.role}) has sha256 ${sha256}, the manifest says ${file.sha256}: fetch it again`;
      problems.push({ file: file.file, kind: "corrupt", message });
    }
    return problems;
  }

  async #setDamage(entry: ModelEntry, problems: readonly FileProblem[]): Promise<void> {
    this.#damage.set(entry.slug, { fingerprint: await this.#filesStamp(entry), problems });
  }

  async #forgetRepaired(): Promise<void> {
    for (const [slug, damage] of this.#damage) {
      const entry = this.#scan.models.get(slug);
      // A load fails for a program as well, and once that is back no file will have changed.
      if (entry === undefined || entry.state === "unequipped" || (await this.#filesStamp(entry)) !== damage.fingerprint)
        this.#damage.delete(slug);
    }
  }

  /** Of all files in the folder: a manifest need not name those of the Optimum layout. */
  async #filesStamp(entry: ModelEntry): Promise<string> {
    const found = await readdir(entry.dir, { recursive: true }).catch(() => []);
    const parts = Object.values(entry.manifest.parts);
    const data = parts.flatMap(({ externalData }) => externalData.map(({ file }) => file));
    const files = new Set([...parts.map(({ file }) => file), ...data, ...found]);
    const stamps = await Promise.all([...files].toSorted().map(async (file) => [file, await this.#cache.stamp(join(entry.dir, file))]));
    return JSON.stringify([entry.dir, entry.manifest, stamps]);
  }

  #withDamage(entry: ModelEntry): ModelEntry {
    const damage = this.#damage.get(entry.slug);
    if (damage === undefined || entry.state !== "available") return entry;
    return { ...entry, state: stateOf(damage.problems), problems: damage.problems };
  }

  #tell(): void {
    const notes = [...this.#scan.notes, ...this.#scan.invalid.map((model) => model.error.message)];
    for (const note of notes) if (!this.#told.has(note)) this.#options.onNote?.(note);
    this.#told = new Set(notes);
  }
}

/** What a runner's refusal says about the files. */
const KINDS: Readonly<Partial<Record<ErrorCode, FileProblem["kind"]>>> = {
  MODEL_NOT_FOUND: "missing",
  MODEL_UNSUPPORTED: "unsupported",
  MANIFEST_INVALID: "unsupported",
};
const CODES: Readonly<Partial<Record<ModelEntry["state"], ErrorCode>>> = {
  missing: "MODEL_NOT_FOUND",
  unsupported: "MODEL_UNSUPPORTED",
  unequipped: "MODEL_UNSUPPORTED",
};

/** Why a model that is not available cannot be loaded; names every file. */
export function unusableError({ slug, state, problems }: ModelEntry): AppError {
  const code = problems.find((problem) => problem.code !== undefined)?.code ?? CODES[state] ?? "MODEL_CORRUPT";
  return new AppError(code, `model ${slug}: ${problems.map(({ message }) => message).join("; ")}`);
}

function fingerprint(entry: ModelEntry): string {
  return JSON.stringify([entry.state, entry.dir, entry.manifest, entry.problems]);
}
