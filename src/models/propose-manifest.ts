import { basename } from "node:path";
import { FAMILY_FIELDS, type Family } from "../core/family-fields.ts";
import { FAMILY_LAYOUTS, layoutOf, type GraphRow } from "../core/family-layout.ts";
import type { FoundGraph, FoundGraphs } from "./onnx/find-graphs.ts";
import type { OnnxFile } from "./onnx/read-onnx.ts";

/** A manifest for a folder of graphs, as far as their inputs and outputs tell. */
export interface Proposal {
  readonly family: Family;
  readonly manifest: Readonly<Record<string, unknown>>;
  /** What somebody has to decide or look up. */
  readonly notes: readonly string[];
}

interface Fit {
  readonly part: string;
  readonly row: GraphRow;
  readonly found: FoundGraph & { readonly onnx: OnnxFile };
  /** Share of its inputs that have a role, and a little for a place that the family knows. */
  readonly score: number;
  /** Whether an output has a name that the family knows. */
  readonly isNamed: boolean;
}

/** A graph of which less is known is not taken for a part. */
const LEAST_SCORE = 0.5;
const LEAST_COVERAGE = 0.25;
/** Beside the weights: what a runner takes by itself, and room for a run. */
const RUNNER_BYTES = 1_000_000_000;

/** The family whose graphs these are most likely, with a manifest; null where none fits. */
export function proposeManifest({ dir, graphs }: FoundGraphs): Proposal | null {
  const families = (Object.keys(FAMILY_LAYOUTS) as Family[]).filter((family) => family !== "fake");
  const ranked = families
    .map((family) => ({ family, fits: assign(family, graphs) }))
    .map(({ family, fits }) => ({ family, fits, score: coverage(family, fits, graphs.length) }))
    .toSorted((a, b) => b.score - a.score);
  const [best] = ranked;
  return best === undefined || best.score < LEAST_COVERAGE ? null : describe(best.family, best.fits, dir);
}

/** How much of a family's parts is there, and of what is there how much it explains: families share text encoders. */
function coverage(family: Family, fits: readonly Fit[], graphs: number): number {
  const parts = Object.values(layoutOf(family).graphs).length;
  const sum = fits.reduce((total, { score, isNamed }) => total + (isNamed ? score : score * UNNAMED), 0);
  // A single file is a part of a model: it says nothing about the others.
  return graphs === 1 ? sum : Math.sqrt((sum / parts) * (sum / graphs));
}

/** A graph whose outputs have no name that the family knows is hardly its own. */
const UNNAMED = 0.6;

/** The best graph for each part, each graph once. */
function assign(family: Family, graphs: readonly FoundGraph[]): readonly Fit[] {
  const all = Object.entries(layoutOf(family).graphs).flatMap(([part, row]) => graphs.flatMap((found) => fitOf(part, row, found) ?? []));
  const taken = new Set<string>();
  return all
    .toSorted((a, b) => b.score - a.score)
    .filter(({ part, found }) => {
      if (taken.has(`part ${part}`) || taken.has(`file ${found.file}`)) return false;
      taken.add(`part ${part}`).add(`file ${found.file}`);
      return true;
    });
}

function fitOf(part: string, row: GraphRow, found: FoundGraph): Fit | null {
  const { onnx } = found;
  if (onnx === null || onnx.inputs.length === 0) return null;
  const known = onnx.inputs.filter(({ name }) => isRole(row.inputs, name)).length / onnx.inputs.length;
  const isNamed = onnx.outputs.some(({ name }) => isRole(row.outputs, name));
  const place = row.places.includes(found.file) ? 0.2 : 0;
  const used = Math.min(1, onnx.inputs.length / row.inputs.length) * 0.1;
  const score = (known + (isNamed ? 0.3 : 0) + place + used) / 1.6;
  return score < LEAST_SCORE ? null : { part, row, found: { ...found, onnx }, score, isNamed };
}

function isRole(roles: readonly string[], name: string): boolean {
  return roles.includes(name) || roles.includes(name.replace(/\.\d+\./, ".*."));
}

function describe(family: Family, fits: readonly Fit[], dir: string): Proposal {
  const { graphs } = layoutOf(family);
  const notes: string[] = [];
  const parts: Record<string, object> = {};
  for (const fit of fits) {
    const part = partOf(fit, notes);
    if (part !== null) parts[fit.part] = part;
  }
  for (const [part, { task, places }] of Object.entries(graphs)) {
    if (fits.some((fit) => fit.part === part)) continue;
    if (task === undefined) notes.push(`no graph here fits part ${part} of family ${family}: put it at ${places.join(" or ")}`);
    else notes.push(`without a graph for part ${part} the model has no ${task}`);
  }
  const absent = new Set(Object.entries(graphs).flatMap(([part, { task }]) => (fits.some((fit) => fit.part === part) ? [] : [task])));
  const weights = fits.reduce((sum, { found }) => sum + found.onnx.weightBytes + sumOf(found.onnx.external.values()), 0);
  notes.push("license, source, limits, defaults and memoryBytes are guesses or gaps: docs/models.md and the model's page say more");
  return {
    family,
    manifest: {
      version: 1,
      slug: basename(dir).replaceAll(/[^A-Za-z0-9._-]/g, "-"),
      name: basename(dir),
      family,
      tasks: (FAMILY_FIELDS[family].tasks ?? []).filter((task) => !absent.has(task)),
      license: { id: "LicenseRef-unknown", commercial: false },
      source: { repository: basename(dir) },
      ...(Object.keys(parts).length === 0 ? {} : { parts }),
      memoryBytes: { cpu: Math.ceil(weights * 1.3) + RUNNER_BYTES },
    },
    notes,
  };
}

function sumOf(values: Iterable<number>): number {
  return [...values].reduce((sum, value) => sum + value, 0);
}

/** What a manifest has to say of a part: null where the family finds it by itself and all names are its roles. */
function partOf({ part, row, found }: Fit, notes: string[]): Readonly<Record<string, unknown>> | null {
  const { onnx, file } = found;
  const inputs = mapped(
    row.inputs,
    onnx.inputs.map(({ name }) => name),
  );
  const outputs =
    onnx.outputs.length === 1
      ? {}
      : mapped(
          row.outputs,
          onnx.outputs.map(({ name }) => name),
        );
  const unknown = onnx.inputs
    .filter(({ name }) => !isRole(row.inputs, name) && !Object.values(inputs).includes(name))
    .map(({ name }) => name);
  if (unknown.length > 0)
    notes.push(`parts.${part}: input ${unknown.join(", ")} of ${file} is of no role that is sure; the roles are ${row.inputs.join(", ")}`);
  const hasOutput = onnx.outputs.some(({ name }) => isRole(row.outputs, name)) || Object.keys(outputs).length > 0;
  if (onnx.outputs.length > 1 && !hasOutput)
    notes.push(`parts.${part}.outputs: which of ${onnx.outputs.map(({ name }) => name).join(", ")} is ${row.outputs.join(", ")}?`);
  const named = { ...(size(inputs) > 0 ? { inputs } : {}), ...(size(outputs) > 0 ? { outputs } : {}) };
  if (row.places.includes(file) && size(named) === 0) return null;
  return { file, ...named };
}

function size(value: object): number {
  return Object.keys(value).length;
}

/** The one role that no tensor has is that of the one tensor that has no role; of more of them nothing is said. */
function mapped(roles: readonly string[], names: readonly string[]): Readonly<Record<string, string>> {
  const free = roles.filter((role) => !role.includes("*") && !names.includes(role));
  const unknown = names.filter((name) => !isRole(roles, name));
  const [role, name] = [free[0], unknown[0]];
  return free.length === 1 && unknown.length === 1 && role !== undefined && name !== undefined ? { [role]: name } : {};
}
