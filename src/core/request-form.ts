import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { familyReads } from "./family-fields.ts";
import { boundsOf, choicesOf, defaultOf, fieldsOf, requiredFields, stepOf } from "./plan-submit.ts";
import type { Field, FileKind } from "./task-fields.ts";
import { fileFields } from "./task-files.ts";

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
  const required = new Set(requiredFields(manifest, task));
  // A parameter that a manifest declares and its family does not read is taken, and does nothing.
  const fields = fieldsOf(manifest, task).filter(({ name }) => familyReads(manifest.family, name));
  return {
    fields: fields.map((field) => formField(manifest, field, required.has(field.name))),
    files: fileFields(manifest, task).map(({ name, kind }) => ({ name, kind, required: required.has(name) })),
  };
}

function formField(manifest: Manifest, field: Field, required: boolean): FormField {
  const { name, kind, aligned = false, spoken } = field;
  const { min, max } = boundsOf(manifest, field);
  const value = kind === "seed" ? -1 : defaultOf(manifest, field);
  return {
    name,
    kind,
    required,
    ...(value !== undefined && { default: value }),
    ...(min !== undefined && { min }),
    ...(max !== undefined && { max }),
    ...(aligned && { step: stepOf(manifest) }),
    ...(spoken === undefined ? choicesIn(manifest, field) : spokenChoices(manifest, spoken)),
  };
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
