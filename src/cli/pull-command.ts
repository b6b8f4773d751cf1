import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { mkdir, readdir, readlink, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import { pulledModelsDir } from "../config/model-folders.ts";
import { lockPulls, type Puller } from "../models/pull/pull-lock.ts";
import { PULLED, pullModel } from "../models/pull/pull-model.ts";
import { readPullRecord } from "../models/pull/pull-record.ts";
import { listRemote, type SourceOptions } from "../models/pull/remote-files.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { EXIT } from "./exit-codes.ts";
import { isFolder } from "../lib/make-folders.ts";
import { openConfiguredModels, requireManifest } from "./models-command.ts";
import { showPull } from "./pull-progress.ts";
import { formatBytes, formatTable, type Terminal } from "./terminal.ts";

/** Connections beside each other, and bytes of a piece: what a fast line needs, without a gain beyond (scripts/bench pull). */
const LANES = 6;
const PIECE_BYTES = 16 * 2 ** 20;
const STALL_MS = 60_000;
const TRIES = 8;

export interface PullCommandOptions {
  readonly variant?: string;
  readonly into?: string;
  readonly acceptLicense: boolean;
  readonly json: boolean;
}

/** `dryapi models pull`: a model's files into the first folder of DRYAPI_MODELS_DIR, or where `--into` says. */
export async function runModelsPull(config: Config, slug: string, options: PullCommandOptions, terminal: Terminal): Promise<number> {
  const manifest = requireManifest(await openConfiguredModels(config), slug);
  const root = rootOf(config, options.into);
  await mkdir(root, { recursive: true });
  const http = new HttpAgent({ keepAlive: true, maxSockets: LANES });
  const https = new HttpsAgent({ keepAlive: true, maxSockets: LANES });
  using progress = showPull(terminal, options);
  try {
    const record = await pullModel({
      manifest,
      root,
      source: sourcesOf(config),
      acceptLicense: options.acceptLicense,
      ...(options.variant !== undefined && { variant: options.variant }),
      fetch: {
        lanes: LANES,
        pieceBytes: PIECE_BYTES,
        stallMs: STALL_MS,
        tries: TRIES,
        agent: ({ protocol }) => (protocol === "https:" ? https : http),
      },
      onNews: progress.news,
    });
    progress[Symbol.dispose]();
    if (options.json) terminal.out(JSON.stringify({ type: "done", dir: join(root, slug), ...record }));
    else
      terminal.out(
        `${slug} (${record.variant}) is in ${join(root, slug)}; a running worker serves it within 30 s, or at once after SIGHUP`,
      );
    return EXIT.ok;
  } finally {
    http.destroy();
    https.destroy();
  }
}

function rootOf(config: Config, into: string | undefined): string {
  return into ?? config.modelsDirs[0] ?? pulledModelsDir(config);
}

function sourcesOf({ hubEndpoint, hubToken }: Config): SourceOptions {
  return { hub: { endpoint: hubEndpoint.replace(/\/+$/, ""), token: hubToken } };
}

/** `dryapi models list --available`: what could be pulled, as its sources say now. */
export async function runModelsAvailable(config: Config, { json }: { readonly json: boolean }, terminal: Terminal): Promise<number> {
  const models = await openConfiguredModels(config);
  const wanted = models
    .list()
    .flatMap(({ manifest }) => Object.entries(manifest.pull?.variants ?? {}).map(([name, variant]) => ({ manifest, name, variant })));
  const rows = await Promise.all(
    wanted.map(async ({ manifest, name, variant }) => {
      const found = await listRemote(variant, sourcesOf(config)).catch((thrown: unknown) => asAppError(thrown));
      const sizes = found instanceof AppError ? [null] : found.files.map(({ sizeBytes }) => sizeBytes);
      const bytes = sizes.includes(null) ? null : sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
      const row = {
        slug: manifest.slug,
        variant: name,
        default: manifest.pull?.default === name,
        bytes,
        license: manifest.license.id,
        commercial: manifest.license.commercial,
        source: variant.source,
        memory_bytes: manifest.memoryBytes,
        note: variant.note,
        problem: found instanceof AppError ? found.message : undefined,
      };
      return row;
    }),
  );
  if (json) terminal.out(JSON.stringify({ available: rows }, null, 2));
  else {
    const table = rows.map((each) => [
      each.slug,
      `${each.variant}${each.default ? " *" : ""}`,
      each.bytes === null ? "unknown" : formatBytes(each.bytes),
      `${each.license}${each.commercial ? "" : " (--accept-license)"}`,
      each.source,
    ]);
    terminal.out(formatTable([["MODEL", "VARIANT", "SIZE", "LICENCE", "SOURCE"], ...table]));
    for (const problem of new Set(rows.flatMap((each) => each.problem ?? []))) terminal.err(`note  ${problem}`);
  }
  return EXIT.ok;
}

interface Pulled {
  readonly slug: string;
  readonly variant: string;
  readonly dir: string;
  readonly bytes: number;
  readonly whole: boolean;
  /** It is what the model's name stands for. */
  readonly linked: boolean;
}

/** `dryapi models du`: what pulls take of the disk. */
export async function runModelsUsage(
  config: Config,
  { json, into }: { readonly json: boolean; readonly into?: string },
  terminal: Terminal,
): Promise<number> {
  const root = rootOf(config, into);
  const pulled = await listPulled(root);
  if (json) terminal.out(JSON.stringify({ root, pulled }, null, 2));
  else {
    const rows = pulled.map((each) => [each.slug, each.variant, formatBytes(each.bytes), stateOf(each)]);
    terminal.out(formatTable([["MODEL", "VARIANT", "ON DISK", "STATE"], ...rows]));
    terminal.out(`${formatBytes(pulled.reduce((sum, { bytes }) => sum + bytes, 0))} in ${root}`);
  }
  return EXIT.ok;
}

function stateOf({ whole, linked }: Pulled): string {
  if (!whole) return "not whole: pull it again to go on, or prune it";
  return linked ? "in use under its name" : "replaced by another variant: prune removes it";
}

/** `dryapi models rm`: a model's name and all of its variants. `prune`: what no name stands for. */
export async function runModelsRemove(
  config: Config,
  slugs: readonly string[] | "unused",
  { into }: { readonly into?: string },
  terminal: Terminal,
): Promise<number> {
  const root = rootOf(config, into);
  // A pull that is under way looks like one that was given up.
  await using _lock = (await isFolder(root)) ? await lockPulls(root, { pid: process.pid, slug: "none" }, tellWho(terminal)) : null;
  const pulled = await listPulled(root);
  const chosen =
    slugs === "unused" ? pulled.filter(({ linked, whole }) => !linked || !whole) : pulled.filter(({ slug }) => slugs.includes(slug));
  const unknown = slugs === "unused" ? [] : slugs.filter((slug) => !chosen.some((each) => each.slug === slug));
  if (unknown.length > 0)
    throw new AppError("MODEL_NOT_FOUND", `${root} has no pulled model ${unknown.join(", ")}; dryapi models du lists them`);
  for (const { slug, variant, dir, bytes, linked } of chosen) {
    // First the name: a worker that looks meanwhile finds no model, and not a half.
    if (linked) await rm(join(root, slug), { force: true });
    await rm(dir, { recursive: true, force: true });
    terminal.out(`removed  ${slug} ${variant}  ${formatBytes(bytes)}`);
  }
  if (chosen.length === 0) terminal.out("nothing to remove");
  return EXIT.ok;
}

function tellWho(terminal: Terminal): (other: Puller | null) => void {
  return (other) =>
    terminal.err(`waiting for a pull${other === null ? "" : ` of ${other.slug} by process ${other.pid}`} into the same folder`);
}

async function listPulled(root: string): Promise<readonly Pulled[]> {
  const store = join(root, PULLED);
  const found: Pulled[] = [];
  for (const slug of await names(store)) {
    const target = await readlink(join(root, slug)).catch(() => null);
    for (const variant of await names(join(store, slug))) {
      const dir = join(store, slug, variant);
      const record = await readPullRecord(dir);
      found.push({
        slug,
        variant,
        dir,
        bytes: await bytesIn(dir),
        whole: record !== null && record.completedAt !== null,
        linked: target === join(PULLED, slug, variant),
      });
    }
  }
  return found;
}

async function names(dir: string): Promise<readonly string[]> {
  return (await readdir(dir).catch(() => [])).toSorted();
}

/** On the disk: files that come are sparse. */
async function bytesIn(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async (entry) => (await stat(join(entry.parentPath, entry.name))).blocks * 512));
  return sizes.reduce((sum, size) => sum + size, 0);
}
