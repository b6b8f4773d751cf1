import { readConfig, type Config } from "../config/config.ts";
import { pulledModelsDir } from "../config/model-folders.ts";
import { SHIPPED_MODELS_DIR } from "../config/package-info.ts";
import { isAskedFor } from "../models/asked-for.ts";
import { openHelperPrograms } from "../models/helper-programs.ts";
import { openModels, type Models, type ModelsOptions, type VerifyReport } from "../models/open-models.ts";
import { isAbsent } from "../models/scan-models.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import type { DeviceKind } from "../protocol/manifest.ts";
import { manifestJsonSchema } from "../protocol/manifest-json-schema.ts";
import { EXIT } from "./exit-codes.ts";
import { formatBytes, formatTable, type Terminal } from "./terminal.ts";
import { firstDevice, placeModel, printPlacement } from "./verify-placement.ts";

type Env = Readonly<Record<string, string | undefined>>;

export async function openConfiguredModels(
  config: Config,
  options: Pick<ModelsOptions, "onNote" | "missingPrograms" | "whyUnfit"> = {},
): Promise<Models> {
  return openModels({
    modelDirs: config.modelsDirs,
    pulledDir: pulledModelsDir(config),
    shippedDir: SHIPPED_MODELS_DIR,
    stateDir: config.stateDir,
    ...options,
  });
}

/** `dryapi models list`: what is on this machine and whether it can be used. */
export async function runModelsList(config: Config, options: { readonly json: boolean }, terminal: Terminal): Promise<number> {
  const models = await openConfiguredModels(config, {
    onNote: (note) => terminal.err(`note  ${note}`),
    missingPrograms: openHelperPrograms({ env: process.env, ffmpegDir: config.ffmpegDir }),
  });
  if (options.json) {
    const rows = models.list().map((model) => ({
      slug: model.slug,
      name: model.manifest.name,
      family: model.manifest.family,
      tasks: model.manifest.tasks,
      state: model.state,
      asked_for: isAskedFor(model.manifest, config),
      shipped: model.shipped,
      dir: model.dir,
      memory_bytes: model.manifest.memoryBytes,
      problems: model.problems.map(({ message }) => message),
    }));
    const invalid = models.invalid().map(({ slug, manifestPath, error }) => ({ slug, manifest: manifestPath, error: error.message }));
    terminal.out(JSON.stringify({ models: rows, invalid }, null, 2));
    return EXIT.ok;
  }
  const rows = models.list().map((model) => {
    const needs = Object.entries(model.manifest.memoryBytes).map(([kind, bytes]) => `${kind} ${formatBytes(bytes)}`);
    const state = isAskedFor(model.manifest, config) ? model.state : `${model.state}, not asked for`;
    return [model.slug, state, model.manifest.tasks.join(","), needs.join(", "), model.dir];
  });
  terminal.out(formatTable([["MODEL", "STATE", "TASKS", "NEEDS", "FOLDER"], ...rows]));
  for (const { slug, state, problems, manifest } of models.list()) {
    // Missing files are what a manifest without its weights looks like: `verify` names them.
    const how = manifest.pull === undefined ? `verify ${slug} names them` : `pull ${slug} gets them`;
    if (state === "missing") terminal.err(`note  ${slug}: ${problems.length} file(s) missing; dryapi models ${how}`);
    else for (const problem of problems) terminal.err(`fail  ${slug}: ${problem.message}`);
  }
  for (const { error } of models.invalid()) terminal.err(`invalid  ${error.message}`);
  return EXIT.ok;
}

export interface VerifyOptions {
  readonly json: boolean;
  /** Whole models are also loaded on the first device of this kind. */
  readonly device?: DeviceKind;
  /** They are loaded on this machine's first device, if no kind is named, and run their smallest request. */
  readonly load?: boolean;
}

/**
 * `dryapi models verify`: hashes every pinned file; with a device also loads each model there and tells which nodes run where. Fails when
 * a file is missing or damaged, or a model cannot be loaded.
 */
export async function runModelsVerify(env: Env, slugs: readonly string[], options: VerifyOptions, terminal: Terminal): Promise<number> {
  const config = readConfig(env);
  const models = await openConfiguredModels(config);
  const kind = options.device ?? (options.load === true ? config.device : undefined);
  const device = kind === undefined ? null : await firstDevice(kind, env);
  const chosen = slugs.length > 0 ? slugs : models.list().map(({ slug }) => slug);
  const reports: object[] = [];
  const absent: string[] = [];
  let failed = slugs.length === 0 && models.invalid().length > 0;
  for (const slug of chosen) {
    const entry = models.get(slug);
    if (slugs.length === 0 && entry !== undefined && isAbsent(entry)) {
      absent.push(slug);
      if (!options.json) terminal.out(`skip  ${slug}: not on this machine`);
      continue;
    }
    const report = await models.verify(slug);
    failed ||= report.problems.length > 0;
    if (!options.json) printReport(report, terminal);
    if (device === null || report.problems.length > 0) {
      reports.push(report);
      continue;
    }
    const placed = await placeModel(models.require(slug), device, env, options.load).catch((thrown: unknown) => asAppError(thrown));
    failed ||= placed instanceof AppError;
    reports.push({ ...report, placement: placed instanceof AppError ? { device: device.id, error: placed.message } : placed });
    if (options.json) continue;
    if (placed instanceof AppError) terminal.out(`fail  ${slug} on ${device.id}: ${placed.message}`);
    else printPlacement(slug, placed, device.kind, terminal);
  }
  const invalid = slugs.length === 0 ? models.invalid().map(({ error }) => error.message) : [];
  if (options.json) terminal.out(JSON.stringify({ reports, absent, invalid }, null, 2));
  else for (const message of invalid) terminal.out(`fail  ${message}`);
  return failed ? EXIT.failed : EXIT.ok;
}

function printReport(report: VerifyReport, terminal: Terminal): void {
  const unpinned = report.unpinned.length > 0 ? `, ${report.unpinned.length} whole by their content, without a pinned sha256` : "";
  terminal.out(
    `${report.problems.length === 0 ? "ok  " : "fail"}  ${report.slug}: ${report.verified.length} files as pinned${unpinned} (${report.dir})`,
  );
  for (const problem of report.problems) terminal.out(`      ${problem.message}`);
}

/** `dryapi models schema`: the JSON Schema of model.json, for editors and for whoever writes one. */
export function runModelsSchema(terminal: Terminal): number {
  terminal.out(manifestJsonSchema().trimEnd());
  return EXIT.ok;
}

/** The manifest that a submit is planned with. Files may be missing here: they are needed where the model runs. @throws AppError MODEL_NOT_FOUND */
export function requireManifest(models: Models, slug: string): ReturnType<Models["require"]>["manifest"] {
  const entry = models.get(slug);
  if (entry !== undefined) return entry.manifest;
  const known = models.list().map((model) => model.slug);
  throw new AppError(
    "MODEL_NOT_FOUND",
    `model ${slug}: no manifest on this machine; known: ${known.join(", ") || "none"} (set DRYAPI_MODELS_DIR to add folders)`,
  );
}
