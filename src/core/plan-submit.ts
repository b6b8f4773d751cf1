import type { JobParams, ParamValue } from "../protocol/job.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { extraParamsOf } from "./extra-params.ts";
import { FAMILY_FIELDS, familyReads, hasField } from "./family-fields.ts";
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
import { ENVELOPE_FIELDS, PRICE_FIELDS, TASK_ROWS, type Field } from "./task-fields.ts";
import { fileProblems, taskFiles, type NamedFile } from "./task-files.ts";
import { judgeUnused } from "./unused-field.ts";

export interface SubmitInput {
  readonly manifest: Manifest;
  readonly task: Task;
  /** Fields of the request by name: JSON values or form texts. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** 0..2^32-1, used when the request leaves the seed to us: resolved here, so that a retry gives the same output. */
  readonly randomSeed: number;
  /** Input files in their order, images with their size in pixels where it is known. */
  readonly files?: readonly SubmitFileFacts[];
  /** Only a price is asked: nothing but the model is required, and `PRICE_FIELDS` may stand for what is missing. */
  readonly priceOnly?: boolean;
}

export interface SubmitFileFacts extends NamedFile {
  readonly width?: number;
  readonly height?: number;
}

export type SubmitPlan =
  | {
      readonly ok: true;
      readonly params: JobParams;
      /** Fields that were taken and change nothing: the client is told. */
      readonly ignored: readonly string[];
    }
  /** `errors` as the API's 422 body has it: texts by field. */
  | { readonly ok: false; readonly errors: Readonly<Record<string, readonly string[]>> };

/**
 * Validates a request against its model's manifest and resolves every parameter: defaults, seed, sizes rounded down to the model's step.
 * A field is used or refused (`unused-field.ts` has the rule and what is excepted).
 * @throws AppError MANIFEST_INVALID when the manifest's own `options.params` is wrong.
 */
export function planSubmit(input: SubmitInput): SubmitPlan {
  const { manifest, task, priceOnly = false } = input;
  if (!manifest.tasks.includes(task)) {
    return { ok: false, errors: { model: [`The model ${manifest.slug} does not support ${task}.`] } };
  }
  const params = new Map<string, ParamValue>();
  const ignored: string[] = [];
  const errors = new Map<string, string[]>();
  const refuse = (field: string, problem: string): void => void errors.set(field, [`The ${field} field ${problem}`]);

  const extra = extraParamsOf(manifest);
  const known = new Set<string>();
  for (const field of fieldsOf(manifest, task)) {
    const name = nameIn(input.fields, field);
    known.add(name).add(field.name);
    const given = input.fields[name];
    const value = isAbsent(given) ? absentValue(input, field) : readField(input, field, given);
    if (value === null) continue;
    if (!value.ok) refuse(name, value.problem);
    else params.set(field.name, value.value);
    if (!isAbsent(given) && !familyReads(manifest.family, field.name)) ignored.push(name);
  }
  for (const [name, given] of Object.entries(input.fields)) {
    if (known.has(name) || ENVELOPE_FIELDS.has(name) || isAbsent(given)) continue;
    const priced = priceOnly ? PRICE_FIELDS.find((field) => field.name === name) : undefined;
    const isExtra = extra.untyped.has(name) || (extra.passAll && !isTaskField(task, name));
    if (priced !== undefined || isExtra) {
      const value = priced === undefined ? readJson(given) : readField(input, priced, given);
      if (value.ok) params.set(name, value.value);
      else refuse(name, value.problem);
      if (isExtra && !familyReads(manifest.family, name)) ignored.push(name);
      continue;
    }
    const unused = judgeUnused(manifest, task, name, given);
    if (unused.kind === "refused") refuse(name, unused.problem);
    else if (unused.kind === "ignored") ignored.push(name);
  }
  for (const [field, problem] of fileProblems(manifest, task, input.files ?? [], { priceOnly })) refuse(field, problem);
  if (errors.size > 0) return { ok: false, errors: Object.fromEntries(errors) };
  if (TASK_ROWS[task].sizeFromImage === true) sizeFromImage(input, params);
  ignored.push(...idleOf(input, params));
  return { ok: true, params: Object.fromEntries(params), ignored };
}

/** What a task takes with a model; a parameter that the manifest declares goes before the task's own field of that name. */
export function fieldsOf(manifest: Manifest, task: Task): readonly Field[] {
  const { typed } = extraParamsOf(manifest);
  const own = TASK_ROWS[task].fields.filter((field) => hasField(manifest, field) && !typed.some(({ name }) => name === field.name));
  return [...own, ...typed];
}

/** The name that a field came under: its own, or the one that public clients know it by. */
function nameIn(given: SubmitInput["fields"], { name, alias }: Field): string {
  return alias !== undefined && isAbsent(given[name]) && !isAbsent(given[alias]) ? alias : name;
}

function isTaskField(task: Task, name: string): boolean {
  const { fields, files = [] } = TASK_ROWS[task];
  return (
    fields.some((field) => field.name === name || field.alias === name) || files.some((file) => file.name === name || file.list === name)
  );
}

/**
 * A negative prompt and the scale that it works by need each other: without a scale above 1 there is no second run for it, and a scale
 * of its own does nothing without it, and is taken out of the parameters. Returns what was given in vain.
 */
function idleOf({ manifest, fields }: SubmitInput, params: Map<string, ParamValue>): readonly string[] {
  const { negativeBy: by } = FAMILY_FIELDS[manifest.family];
  if (by === undefined) return [];
  const isAbove = Number(params.get(by) ?? 1) > 1;
  if (params.has("negative_prompt")) return isAbove ? [] : ["negative_prompt"];
  if (by === "guidance") return [];
  params.delete(by);
  return isAbove && !isAbsent(fields[by]) ? [by] : [];
}

/** What stands for a field that did not come; null = it stays absent. */
function absentValue({ manifest, randomSeed, priceOnly }: SubmitInput, field: Field): FieldValue<ParamValue> | null {
  if (field.kind === "seed") return { ok: true, value: randomSeed };
  const value = defaultOf(manifest, field);
  if (value !== undefined) return { ok: true, value };
  return field.required === true && priceOnly !== true ? { ok: false, problem: "is required." } : null;
}

/** What a field is with a model when nobody says; undefined: nothing. */
export function defaultOf(
  { defaults, languages }: Manifest,
  { name, fallback, aligned, required, spoken }: Field,
): string | number | boolean | undefined {
  // A size that is left out means the image's, where the task has one.
  if (aligned === true && required !== true) return undefined;
  return defaults[name] ?? fallback ?? (spoken === "lang" ? languages?.[0]?.slug : undefined);
}

/**
 * The fields and files that a request for a task must carry with a model, in their order: those that the model has no default for.
 * `model` itself is not among them.
 */
export function requiredFields(manifest: Manifest, task: Task): readonly string[] {
  const fields = fieldsOf(manifest, task).filter((field) => field.required === true && defaultOf(manifest, field) === undefined);
  const files = (TASK_ROWS[task].files ?? []).filter(({ required }) => required === true);
  return [...fields, ...files].map(({ name }) => name);
}

/** What is wrong with a manifest's own default for a field; null: nothing, or it has none. */
export function defaultProblem(manifest: Manifest, task: Task, field: Field): string | null {
  const value = manifest.defaults[field.name];
  if (value === undefined) return null;
  const read = readField({ manifest, task, fields: {}, randomSeed: 0 }, field, value);
  return read.ok ? null : read.problem;
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
  // Without a language it is the first.
  const lang = isAbsent(fields["lang"]) ? languages[0]?.slug : fields["lang"];
  return languages.find(({ slug }) => slug === lang)?.voices.map(({ slug }) => slug) ?? null;
}

/** What the manifest says, else the table. */
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
