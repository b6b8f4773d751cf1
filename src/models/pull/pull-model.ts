import { createHash } from "node:crypto";
import { lstat, mkdir, readdir, readFile, readlink, rename, rm, stat, statfs, symlink } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { z } from "zod";
import { isMissing } from "../../lib/errno.ts";
import { parseJson } from "../../lib/parse-json.ts";
import type { LockHolder } from "../../lib/process-lock.ts";
import { syncDir, writeAtomic } from "../../lib/write-atomic.ts";
import { AppError } from "../../protocol/error.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { PullVariant } from "../../protocol/pull-block.ts";
import { fetchFile, type FetchOptions } from "./fetch-file.ts";
import { lockPulls } from "./pull-lock.ts";
import { readPullRecord, writePullRecord, type PullRecord } from "./pull-record.ts";
import { listRemote, type RemoteFile, type RemoteModel, type SourceOptions } from "./remote-files.ts";

/** Where pulled files lie, below the folder of models: `<this>/<slug>/<variant>`. Its name hides it from the scan of models. */
export const PULLED = ".pulled";
const COMMIT = /^[0-9a-f]{40}$/;
const LICENCES = ".licences.json";
/** Slug and licence -> when it was accepted. */
const acceptedSchema = z.record(z.string(), z.string());
/** Left free on the disk, bytes. */
const RESERVE_BYTES = 2 ** 30;

export type PullNews =
  | { readonly type: "waiting"; readonly other: LockHolder }
  | {
      readonly type: "planned";
      readonly source: string;
      readonly files: number;
      readonly totalBytes: number | null;
      readonly presentBytes: number;
    }
  | { readonly type: "bytes"; readonly file: string; readonly done: number; readonly size: number }
  | { readonly type: "file"; readonly file: string; readonly sizeBytes: number; readonly sha256: string }
  | { readonly type: "trouble"; readonly text: string };

export interface PullOptions {
  readonly manifest: Manifest;
  /** By default the manifest's. */
  readonly variant?: string;
  /** The folder of models, which exists. */
  readonly root: string;
  readonly source: SourceOptions;
  readonly acceptLicense: boolean;
  readonly fetch: FetchOptions;
  readonly onNews: (news: PullNews) => void;
}

/**
 * Puts a variant of a model into a folder of models. It appears there, under its slug, only once all of its files are whole and of the right
 * digests: `<root>/<slug>` becomes a link to it. Workers never see a half of it, nor a mixture of two variants.
 * @throws AppError INVALID_INPUT (no such variant, a licence that was not accepted, a folder in the way), STORAGE_* and MODEL_* as fetchFile, SPOOL_FULL without room
 */
export async function pullModel(options: PullOptions): Promise<PullRecord> {
  const { manifest, root, onNews } = options;
  const { name, variant } = chooseVariant(manifest, options.variant);
  await requireLicense(options);
  await requireNoFolder(root, manifest.slug);
  const onWait = (other: LockHolder): void => onNews({ type: "waiting", other });
  await using _lock = await lockPulls(root, `pulls ${manifest.slug}`, onWait, options.fetch.signal);
  const pulls = await listPulls(root, manifest.slug, name);
  const [latest] = pulls;
  const remote = await listRemote(
    latest === undefined ? variant : { ...variant, source: pinned(variant.source, latest.record.source) },
    options.source,
  );
  const dir = join(root, PULLED, manifest.slug, folderFor(name, remote.source, pulls));
  await mkdir(dir, { recursive: true });
  const record = await fetchAll(options, dir, name, remote, await readPullRecord(dir));
  await link(root, manifest.slug, dir);
  return record;
}

export function chooseVariant(manifest: Manifest, asked: string | undefined): { readonly name: string; readonly variant: PullVariant } {
  const { pull, slug } = manifest;
  if (pull === undefined)
    throw new AppError(
      "INVALID_INPUT",
      `model ${slug}: its manifest does not say where its files can be had; docs/models.md says how to bring them`,
    );
  const name = asked ?? pull.default;
  const variant = pull.variants[name];
  if (variant === undefined)
    throw new AppError("INVALID_INPUT", `model ${slug} has no variant ${name}, expected one of ${Object.keys(pull.variants).join(", ")}`);
  return { name, variant };
}

/** The commit of the first pull, while the manifest names the same repository and no commit of its own. */
function pinned(source: string, earlier: string): string {
  const [repository, revision = ""] = source.split("@");
  return earlier.split("@")[0] === repository && !COMMIT.test(revision) ? earlier : source;
}

interface EarlierPull {
  readonly folder: string;
  readonly record: PullRecord;
}

/** Earlier pulls of the variant, first the one that the model's name stands for. */
async function listPulls(root: string, slug: string, variant: string): Promise<readonly EarlierPull[]> {
  const store = join(root, PULLED, slug);
  const linked = basename(await readlink(join(root, slug)).catch(() => ""));
  const folders = (await readdir(store).catch(() => [])).toSorted((a, b) => Number(b === linked) - Number(a === linked));
  const pulls = await Promise.all(folders.map(async (folder) => ({ folder, record: await readPullRecord(join(store, folder)) })));
  return pulls.flatMap(({ folder, record }) => (record?.variant === variant ? [{ folder, record }] : []));
}

/** Files of another source never go beside those of a whole pull: workers may open them. It has a folder of its own, and the name changes at the end. */
function folderFor(variant: string, source: string, pulls: readonly EarlierPull[]): string {
  const same = pulls.find(({ record }) => record.source === source);
  if (same !== undefined) return same.folder;
  const isTaken = pulls.some(({ folder, record }) => folder === variant && record.completedAt !== null);
  return isTaken ? `${variant}@${createHash("sha256").update(source).digest("hex").slice(0, 8)}` : variant;
}

/** Terms that bind are accepted once a folder of models. */
async function requireLicense({ manifest: { slug, license }, root, acceptLicense }: PullOptions): Promise<void> {
  if (license.commercial) return;
  const path = join(root, LICENCES);
  const known = acceptedSchema.safeParse(parseJson(await readFile(path, "utf8").catch(() => "{}")));
  // What was damaged is asked for again.
  const accepted = known.success ? known.data : {};
  const key = `${slug} ${license.id}`;
  if (accepted[key] !== undefined) return;
  if (!acceptLicense) {
    const where = license.url === undefined ? "" : ` (${license.url})`;
    throw new AppError(
      "INVALID_INPUT",
      `model ${slug} is under ${license.id}${where}, which does not allow commercial use: read it, and pull with --accept-license`,
    );
  }
  await writeAtomic(path, `${JSON.stringify({ ...accepted, [key]: new Date().toISOString() }, null, 2)}\n`);
}

/** Whether a folder of models has nothing under the slug, or what a pull has put there. */
export async function isFreeFor(root: string, slug: string): Promise<boolean> {
  const found = await lstat(join(root, slug)).catch(() => null);
  return found === null || found.isSymbolicLink();
}

/** A folder that somebody has put there by hand is not touched. */
async function requireNoFolder(root: string, slug: string): Promise<void> {
  if (await isFreeFor(root, slug)) return;
  throw new AppError(
    "INVALID_INPUT",
    `${join(root, slug)} is there already, and no pull has put it there: move it away, or pull into another folder (--into)`,
  );
}

async function fetchAll(
  options: PullOptions,
  dir: string,
  variant: string,
  remote: RemoteModel,
  earlier: PullRecord | null,
): Promise<PullRecord> {
  const { manifest, onNews } = options;
  // What the first pull found binds the later ones.
  const pins = new Map(earlier?.source === remote.source ? earlier.files.map((file) => [file.file, file]) : []);
  const files = remote.files.map((file) => ({ ...file, sha256: file.sha256 ?? pins.get(file.to)?.sha256 ?? null }));
  const present = new Map<string, PullRecord["files"][number]>();
  for (const file of files) {
    const pin = pins.get(file.to);
    if (pin !== undefined && pin.sha256 === file.sha256 && (await sizeOf(join(dir, file.to))) === pin.sizeBytes) present.set(file.to, pin);
  }
  const missing = files.filter(({ to }) => !present.has(to));
  await requireRoom(dir, missing);
  const presentBytes = [...present.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  onNews({ type: "planned", source: remote.source, files: files.length, totalBytes: totalOf(files, presentBytes, missing), presentBytes });
  const record = (completedAt: string | null): PullRecord => ({
    slug: manifest.slug,
    variant,
    source: remote.source,
    completedAt,
    files: files.flatMap(({ to }) => present.get(to) ?? []),
  });
  // Whole as it is: a record that says less, for a moment, would be believed by `prune`.
  if (missing.length === 0 && earlier !== null && earlier.completedAt !== null) return earlier;
  // Before the first byte: the commit that these files are of.
  await writePullRecord(dir, record(null));
  for (const file of missing) {
    const digest = await fetchFile(file, join(dir, file.to), {
      ...options.fetch,
      onBytes: (done, size) => onNews({ type: "bytes", file: file.to, done, size }),
      onTrouble: (text) => onNews({ type: "trouble", text }),
    });
    present.set(file.to, { file: file.to, ...digest });
    await writePullRecord(dir, record(null));
    onNews({ type: "file", file: file.to, ...digest });
  }
  const whole = record(new Date().toISOString());
  await writePullRecord(dir, whole);
  return whole;
}

/** Null where the source does not say all sizes. */
function totalOf(files: readonly RemoteFile[], presentBytes: number, missing: readonly RemoteFile[]): number | null {
  if (files.length === 0) return 0;
  return missing.reduce<number | null>((sum, { sizeBytes }) => (sum === null || sizeBytes === null ? null : sum + sizeBytes), presentBytes);
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
}

async function requireRoom(dir: string, missing: readonly RemoteFile[]): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  let needed = 0;
  for (const { to, sizeBytes } of missing) {
    const part = await stat(join(dir, `${to}.part`)).catch(() => null);
    // Of a sparse file only what is written takes room.
    needed += Math.max(0, (sizeBytes ?? 0) - (part === null ? 0 : part.blocks * 512));
  }
  const free = bavail * bsize;
  if (needed === 0 || needed + RESERVE_BYTES <= free) return;
  throw new AppError(
    "SPOOL_FULL",
    `${dir}: ${needed} bytes are to be fetched, and ${free} are free, of which ${RESERVE_BYTES} stay free: make room, or pull into another folder (--into)`,
  );
}

/** In one step, so that whoever opens the model meanwhile has the one or the other. */
async function link(root: string, slug: string, dir: string): Promise<void> {
  const path = join(root, slug);
  const fresh = join(root, `.${slug}.link`);
  // There is one puller: what lies here is of one that was killed.
  await rm(fresh, { force: true });
  await symlink(relative(root, dir), fresh);
  await rename(fresh, path);
  await syncDir(root);
}
