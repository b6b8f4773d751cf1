import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import { pulledModelsDir } from "../config/model-folders.ts";
import { isFreeFor, pullModel } from "../models/pull/pull-model.ts";
import { listRemote, type SourceOptions } from "../models/pull/remote-files.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { EXIT } from "./exit-codes.ts";
import { openConfiguredModels, requireManifest } from "./models-command.ts";
import { showPull } from "./pull-progress.ts";
import { formatBytes, formatTable, type Terminal } from "./terminal.ts";

/** Connections beside each other, and bytes of a piece. On one machine three are as fast (scripts/bench pull). */
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
  const root = options.into ?? (await rootFor(config, slug));
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
    else terminal.out(`${slug} (${record.variant}) is in ${join(root, slug)}; ${nextStep(config, root)}`);
    return EXIT.ok;
  } finally {
    http.destroy();
    https.destroy();
  }
}

/** The first folder in which nobody has put the model by hand. */
async function rootFor({ modelsDirs, stateDir }: Config, slug: string): Promise<string> {
  for (const dir of modelsDirs) if (await isFreeFor(dir, slug)) return dir;
  return pulledModelsDir({ stateDir });
}

/** What is to be done before workers see it. */
function nextStep({ modelsDirs, stateDir }: Config, root: string): string {
  return [...modelsDirs, pulledModelsDir({ stateDir })].includes(root)
    ? "a running worker serves it within 30 s, or at once after SIGHUP"
    : `workers see it once DRYAPI_MODELS_DIR names ${root}`;
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
