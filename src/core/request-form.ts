import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { extraParamsOf } from "./extra-params.ts";
import { boundsOf, choicesOf, stepOf, supports } from "./plan-submit.ts";
import { TASK_ROWS, type Field, type FileKind } from "./task-fields.ts";

type Value = string | number | boolean;

/** One input of a form. */
export interface FormField {
  readonly name: string;
  readonly kind: Field["kind"];
  /** False also where a default stands for what is left out. */
  readonly required: boolean;
  /** What a request without the field runs with; absent: the pipeline's, or the input image's size. */
  readonly default?: Value;
  readonly min?: number;
  readonly max?: number;
  /** Values are multiples of it. */
  readonly step?: number;
  readonly choices?: readonly (string | number)[];
  /** Choices that depend on another field's value. */
  readonly choicesBy?: { readonly field: string; readonly choices: Readonly<Record<string, readonly string[]>> };
}

export interface FormFile {
  readonly name: string;
  readonly kind: FileKind;
  readonly required: boolean;
}

export interface RequestForm {
  readonly fields: readonly FormField[];
  readonly files: readonly FormFile[];
}

/** What a model takes for a task, from the rows and rules that `planSubmit` validates with: a form made of it offers nothing else. */
export function requestForm(manifest: Manifest, task: Task): RequestForm {
  const row = TASK_ROWS[task];
  const fields = [...row.fields, ...extraParamsOf(manifest).typed].filter((field) => supports(manifest, field));
  const files = (row.files ?? []).filter(({ feature }) => feature === undefined || manifest.features[feature] === true);
  return {
    fields: fields.map((field) => formField(manifest, field, row.sizeFromImage === true)),
    files: files.map(({ name, kind, required = false }) => ({ name, kind, required })),
  };
}

function formField(manifest: Manifest, field: Field, sizeFromImage: boolean): FormField {
  const { name, kind, aligned = false, required = false, spoken } = field;
  const { min, max } = boundsOf(manifest, field);
  const value = sizeFromImage && aligned ? undefined : defaultOf(manifest, field);
  return {
    name,
    kind,
    required: required && value === undefined,
    ...(value !== undefined && { default: value }),
    ...(min !== undefined && { min }),
    ...(max !== undefined && { max }),
    ...(aligned && { step: stepOf(manifest) }),
    ...(spoken === undefined ? choicesIn(manifest, field) : spokenChoices(manifest, spoken)),
  };
}

function defaultOf({ defaults, languages }: Manifest, { name, kind, fallback, spoken }: Field): Value | undefined {
  if (kind === "seed") return -1;
  return defaults[name] ?? fallback ?? (spoken === "lang" ? languages?.[0]?.slug : undefined);
}

function choicesIn(manifest: Manifest, field: Field): Pick<FormField, "choices"> {
  if (field.values !== undefined) {
    const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = boundsOf(manifest, field);
    return { choices: field.values.filter((value) => value >= min && value <= max) };
  }
  return field.kind === "choice" ? { choices: choicesOf(manifest, field) } : {};
}

/** A voice belongs to a language. */
function spokenChoices({ languages }: Manifest, kind: "lang" | "voice"): Pick<FormField, "choices" | "choicesBy"> {
  if (languages === undefined) return {};
  if (kind === "lang") return { choices: languages.map(({ slug }) => slug) };
  const byLanguage = languages.map(({ slug, voices }) => [slug, voices.map((voice) => voice.slug)] as const);
  return { choicesBy: { field: "lang", choices: Object.fromEntries(byLanguage) } };
}
