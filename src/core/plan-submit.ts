import type { JobParams, ParamValue } from "../protocol/job.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { extraParamsOf } from "./extra-params.ts";
import {
  isAbsent,
  readBoolean,
  readChoice,
  readJson,
  readNumber,
  readSeed,
  readText,
  readTexts,
  readUrl,
  type Bounds,
  type FieldValue,
} from "./field-value.ts";
import { alignDown, fitSize } from "./fit-size.ts";
import { ENVELOPE_FIELDS, TASK_ROWS, type Field } from "./task-fields.ts";
import { fileProblems, taskFiles, type NamedFile } from "./task-files.ts";

export interface SubmitInput {
  readonly manifest: Manifest;
  readonly task: Task;
  /** Fields of the request by name: JSON values or form texts. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** 0..2^32-1, used when the request leaves the seed to us: resolved here, so that a retry gives the same output. */
  readonly randomSeed: number;
  /** Input files in their order, images with their size in pixels where it is known. */
  readonly files?: readonly SubmitFileFacts[];
}

export interface SubmitFileFacts extends NamedFile {
  readonly width?: number;
  readonly height?: number;
}

/** `errors` as the API's 422 body has it: texts by field. */
export type SubmitPlan =
  | { readonly ok: true; readonly params: JobParams }
  | { readonly ok: false; readonly errors: Readonly<Record<string, readonly string[]>> };

/**
 * Validates a request against its model's manifest and resolves every parameter: defaults, seed, sizes rounded down to the model's
 * step. Fields that the model does not support, and fields nobody declared, are left out.
 * @throws AppError MANIFEST_INVALID when the manifest's own `options.params` is wrong.
 */
export function planSubmit(input: SubmitInput): SubmitPlan {
  const { manifest, task } = input;
  const row = TASK_ROWS[task];
  if (!manifest.tasks.includes(task)) {
    return { ok: false, errors: { model: [`The model ${manifest.slug} does not support ${task}.`] } };
  }
  const params = new Map<string, ParamValue>();
  const errors = new Map<string, string[]>();
  const refuse = (field: string, problem: string): void => void errors.set(field, [`The ${field} field ${problem}`]);

  const extra = extraParamsOf(manifest);
  for (const field of [...row.fields, ...extra.typed]) {
    if (!supports(manifest, field)) continue;
    const given = input.fields[field.name];
    const value = isAbsent(given) ? absentValue(input, field) : readField(input, field, given);
    if (value === null) continue;
    if (value.ok) params.set(field.name, value.value);
    else refuse(field.name, value.problem);
  }
  const known = new Set([...row.fields, ...extra.typed].map(({ name }) => name));
  for (const [name, given] of Object.entries(input.fields)) {
    if (known.has(name) || ENVELOPE_FIELDS.has(name) || isAbsent(given) || !(extra.passAll || extra.untyped.has(name))) continue;
    const value = readJson(given);
    if (value.ok) params.set(name, value.value);
    else refuse(name, value.problem);
  }
  const { loras } = input.fields;
  if (!isAbsent(loras) && loras !== "[]") refuse("loras", `must be empty: the model ${manifest.slug} has no LoRAs.`);
  for (const [field, problem] of fileProblems(manifest, task, input.files ?? [])) refuse(field, problem);
  if (errors.size > 0) return { ok: false, errors: Object.fromEntries(errors) };
  if (row.sizeFromImage === true) sizeFromImage(input, params);
  return { ok: true, params: Object.fromEntries(params) };
}

/** Whether a field means anything to a model. */
export function supports({ features, limits, defaults }: Manifest, { name, feature }: Field): boolean {
  if (feature === undefined) return true;
  const mentioned = `min_${name}` in limits || `max_${name}` in limits || name in defaults;
  return features[feature] ?? mentioned;
}

/** What stands for a field that did not come; null = it stays absent. */
function absentValue({ manifest, randomSeed }: SubmitInput, field: Field): FieldValue<ParamValue> | null {
  if (field.kind === "seed") return { ok: true, value: randomSeed };
  if (field.required === true) return { ok: false, problem: "is required." };
  // A size that is left out means the image's, where the task has one.
  const value = field.aligned === true ? undefined : (manifest.defaults[field.name] ?? field.fallback);
  return value === undefined ? null : { ok: true, value };
}

function readField(input: SubmitInput, field: Field, given: unknown): FieldValue<ParamValue> {
  const { manifest, randomSeed } = input;
  const bounds = boundsOf(manifest, field);
  switch (field.kind) {
    case "text": {
      const read = readText(given, bounds);
      const offered = read.ok && field.spoken !== undefined ? spokenSlugs(input, field.spoken) : null;
      return read.ok && offered !== null && !offered.includes(read.value) ? { ok: false, problem: oneOf(offered) } : read;
    }
    case "texts":
      return readTexts(given, { ...bounds, maxItems: field.maxItems ?? 1 });
    case "choice":
      return readChoice(given, choicesOf(manifest, field));
    case "url":
      return readUrl(given, bounds);
    case "boolean":
      return readBoolean(given);
    case "number":
      return readNumber(given, bounds);
    case "integer": {
      const read = readNumber(given, { ...bounds, integer: true });
      if (read.ok && field.values?.includes(read.value) === false) return { ok: false, problem: oneOf(field.values) };
      return read.ok && field.aligned === true ? { ok: true, value: alignDown(read.value, stepOf(manifest), bounds) } : read;
    }
    case "seed": {
      const read = readSeed(given);
      return read.ok ? { ok: true, value: read.value ?? randomSeed } : read;
    }
  }
}

function oneOf(values: readonly (string | number)[]): string {
  return `must be one of ${values.join(", ")}.`;
}

/** A field's choices with a model. */
export function choicesOf({ features }: Pick<Manifest, "features">, { choices = [], choiceFeatures = {} }: Field): readonly string[] {
  return choices.filter((choice) => choiceFeatures[choice] === undefined || features[choiceFeatures[choice]] === true);
}

/** Null when the model does not say what it speaks, or when the language itself is wrong: then that is what is told. */
function spokenSlugs({ manifest, fields }: SubmitInput, kind: "lang" | "voice"): readonly string[] | null {
  const { languages } = manifest;
  if (languages === undefined) return null;
  if (kind === "lang") return languages.map(({ slug }) => slug);
  return languages.find(({ slug }) => slug === fields["lang"])?.voices.map(({ slug }) => slug) ?? null;
}

export function boundsOf({ limits }: Manifest, { name, min, max }: Pick<Field, "name" | "min" | "max">): Bounds {
  return { min: limits[`min_${name}`] ?? min, max: limits[`max_${name}`] ?? max };
}

/** Sides are multiples of it. */
export function stepOf({ limits }: Manifest): number {
  return limits["resolution_step"] ?? 1;
}

/** Fills in a size that was left out, where the first image's is known; else the pipeline takes the image's own. */
function sizeFromImage({ manifest, task, files = [] }: SubmitInput, params: Map<string, ParamValue>): void {
  const { width, height } = taskFiles(manifest, task, files)[0] ?? {};
  if (width === undefined || height === undefined) return;
  const rule = {
    width: boundsOf(manifest, { name: "width", min: 1 }),
    height: boundsOf(manifest, { name: "height", min: 1 }),
    step: stepOf(manifest),
  };
  const fitted = fitSize({ width, height }, rule, { width: params.get("width"), height: params.get("height") });
  for (const side of ["width", "height"] as const) {
    if (!params.has(side)) params.set(side, fitted[side]);
  }
}
