import { join, resolve } from "node:path";
import { checkManifest } from "../core/check-manifest.ts";
import { ContentChecks } from "../models/content-checks.ts";
import { checkModelFolder } from "../models/model-files.ts";
import { findGraphs, type FoundGraph } from "../models/onnx/find-graphs.ts";
import { proposeManifest, type Proposal } from "../models/propose-manifest.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { parseManifest, type DeviceKind, type Manifest } from "../protocol/manifest.ts";
import { EXIT } from "./exit-codes.ts";
import { formatBytes, type Terminal } from "./terminal.ts";
import { firstDevice, placeModel, type ModelPlacement } from "./verify-placement.ts";

type Env = Readonly<Record<string, string | undefined>>;

export interface InspectOptions {
  readonly json: boolean;
  /** The proposed model is loaded on the first device of this kind. */
  readonly device?: DeviceKind;
}

/** Operators that are told apart on a line. */
const SHOWN_OPERATORS = 12;

interface Inspection {
  readonly dir: string;
  readonly graphs: readonly FoundGraph[];
  readonly proposal: Proposal | null;
  /** What stands between the folder and a model that can be loaded. */
  readonly problems: readonly string[];
  readonly placement: ModelPlacement | null;
}

/**
 * `dryapi models inspect`: what is in ONNX files, without a library; with a device, which provider has their nodes. Proposes a model.json.
 * Fails when a file is damaged, or the model cannot be loaded on the device.
 */
export async function runModelsInspect(env: Env, path: string, options: InspectOptions, terminal: Terminal): Promise<number> {
  const inspection = await inspect(env, resolve(path), options.device);
  if (options.json)
    terminal.out(
      JSON.stringify(
        inspection,
        (_, value: unknown): unknown => (value instanceof Map ? Object.fromEntries(value as Map<string, unknown>) : value),
        2,
      ),
    );
  else print(inspection, terminal);
  const isDamaged = inspection.graphs.some(({ problem }) => problem !== null);
  const isUnplaced = options.device !== undefined && inspection.placement === null;
  return isDamaged || isUnplaced || inspection.graphs.length === 0 ? EXIT.failed : EXIT.ok;
}

async function inspect(env: Env, path: string, kind: DeviceKind | undefined): Promise<Inspection> {
  const found = await findGraphs(path).catch((cause: unknown) => {
    throw new AppError("MODEL_NOT_FOUND", `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  });
  const proposal = proposeManifest(found);
  if (proposal === null) return { ...found, proposal, problems: ["no family of this version has graphs like these"], placement: null };
  const { manifest, problems } = await judge(proposal, found.dir);
  if (manifest === null || kind === undefined || problems.length > 0) return { ...found, proposal, problems, placement: null };
  const placed = await place(manifest, found.dir, kind, env);
  return placed instanceof AppError
    ? { ...found, proposal, problems: [placed.message], placement: null }
    : { ...found, proposal, problems, placement: placed };
}

/** The proposal as a worker would read it. */
async function judge(
  proposal: Proposal,
  dir: string,
): Promise<{ readonly manifest: Manifest | null; readonly problems: readonly string[] }> {
  try {
    const manifest = parseManifest(proposal.manifest, "the proposal");
    checkManifest(manifest, "the proposal");
    const { problems } = await checkModelFolder(dir, manifest, new ContentChecks());
    return { manifest, problems: problems.map(({ message }) => message) };
  } catch (thrown) {
    return { manifest: null, problems: [asAppError(thrown).message] };
  }
}

async function place(manifest: Manifest, dir: string, kind: DeviceKind, env: Env): Promise<ModelPlacement | AppError> {
  try {
    const entry = {
      slug: manifest.slug,
      state: "available",
      manifest,
      manifestPath: "",
      dir,
      shipped: false,
      problems: [],
      partBytes: {},
    } as const;
    return await placeModel(entry, await firstDevice(kind, env), env);
  } catch (thrown) {
    return asAppError(thrown);
  }
}

function print({ dir, graphs, proposal, problems, placement }: Inspection, terminal: Terminal): void {
  if (graphs.length === 0) terminal.out(`no .onnx file in ${dir}`);
  for (const graph of graphs) printGraph(graph, placement, dir, terminal);
  for (const problem of problems) terminal.out(`lacks  ${problem}`);
  if (proposal === null) return;
  for (const note of proposal.notes) terminal.out(`note   ${note}`);
  terminal.out(`model.json, as far as the graphs tell:\n${JSON.stringify(proposal.manifest, null, 2)}`);
}

function printGraph({ file, onnx, problem }: FoundGraph, placement: ModelPlacement | null, dir: string, terminal: Terminal): void {
  if (onnx === null) {
    terminal.out(`fail   ${file} ${problem}`);
    return;
  }
  const opsets = [...onnx.opsets].map(([domain, version]) => `${domain === "" ? "ai.onnx" : domain} ${version}`).join(", ");
  terminal.out(`${file}: by ${onnx.producer || "nobody named"}, IR ${onnx.irVersion}, operator sets ${opsets}`);
  for (const [title, edges] of [
    ["in", onnx.inputs],
    ["out", onnx.outputs],
  ] as const)
    for (const { name, type, dims } of edges) terminal.out(`  ${title.padEnd(4)} ${name} ${type}[${dims.join(", ")}]`);
  terminal.out(`  ops  ${mostOf(onnx.operators)}`);
  const beside = [...onnx.external].map(([name, bytes]) => `, ${formatBytes(bytes)} in ${name}`).join("");
  terminal.out(`  data ${formatBytes(onnx.weightBytes)} inside${beside}`);
  const placed = placement?.graphs.find(({ path }) => path === file || path === join(dir, file));
  for (const [provider, operators] of Object.entries(placed?.operators ?? {}))
    terminal.out(`  on   ${provider}: ${mostOf(new Map(Object.entries(operators)))}`);
}

function mostOf(operators: ReadonlyMap<string, number>): string {
  const sorted = [...operators].toSorted(([, a], [, b]) => b - a);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  const shown = sorted.slice(0, SHOWN_OPERATORS).map(([name, count]) => `${name} ${count}`);
  const more = sorted.length - shown.length;
  return `${total} nodes: ${shown.join(", ")}${more > 0 ? ` and ${more} more kinds` : ""}`;
}
