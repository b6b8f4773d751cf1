import { extraParamsOf } from "../../core/extra-params.ts";
import { defaultOf, fieldsOf, requiredFields } from "../../core/plan-submit.ts";
import { PRICE_FIELDS, TASK_ROWS, type Field, type FileField } from "../../core/task-fields.ts";
import { fileFields } from "../../core/task-files.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { Task } from "../../protocol/task.ts";
import { absentSchema, dialSchema, fieldSchema, optional, type BodyKind } from "./field-schema.ts";
import { fileListSchema, fileRules, fileSchema } from "./file-schema.ts";
import { mergeVariants, type Variant } from "./model-variants.ts";
import type { Schema } from "./schema.ts";
import { loras, modelSchema, SECRET_NEEDS_URL, webhookFields } from "./shared-fields.ts";

export interface BodyOptions {
  readonly kind: BodyKind;
  /** Those that have the task. */
  readonly models: readonly Manifest[];
  readonly allowHttpWebhooks: boolean;
  /** Only a price is asked: nothing but the model is required, and sizes may stand for what is measured. */
  readonly priceOnly?: boolean;
}

/** The body of a submit: what the schema allows is accepted and what it refuses is refused, but for what only a file's content tells. */
export function taskBody(task: Task, options: BodyOptions): Schema {
  const { kind, models, allowHttpWebhooks, priceOnly = false } = options;
  // Without a model nothing is accepted, but what would be sent is worth knowing.
  const variants = (models.length > 0 ? models : [noModel(task)]).map((manifest) => variantOf(task, manifest, { kind, priceOnly }));
  const own = new Map(TASK_ROWS[task].fields.map((field) => [field.name, field]));
  const absent = (name: string): Schema => absentSchema(own.get(name), kind);
  const { properties, required, rules } = mergeVariants(variants, absent);
  const passAll = models.some((manifest) => extraParamsOf(manifest).passAll);
  const hooks = Object.entries(webhookFields(allowHttpWebhooks)).map(([name, schema]) => [name, optional(schema, kind)] as const);
  return {
    type: "object",
    properties: {
      model: modelSchema(models),
      ...properties,
      ...(own.has("width") && { loras: loras(kind) }),
      ...Object.fromEntries(hooks),
    },
    required: ["model", ...required],
    additionalProperties: passAll,
    allOf: [...rules, SECRET_NEEDS_URL],
  };
}

/** Reads whatever a task has, and limits nothing. */
function noModel(task: Task): Manifest {
  const features = Object.fromEntries(
    [...TASK_ROWS[task].fields, ...(TASK_ROWS[task].files ?? [])].flatMap(({ feature }) =>
      feature === undefined ? [] : [[feature, true]],
    ),
  );
  return { slug: "", family: "fake", limits: {}, features, defaults: {}, options: {} } as unknown as Manifest;
}

type VariantOptions = { readonly kind: BodyKind; readonly priceOnly: boolean };

function variantOf(task: Task, manifest: Manifest, { kind, priceOnly }: VariantOptions): Variant {
  const required = priceOnly ? [] : requiredFields(manifest, task);
  const fields = fieldsOf(manifest, task);
  const files = fileFields(manifest, task);
  const properties: Record<string, Schema> = {};
  for (const field of fields) {
    const value = field.kind === "seed" ? -1 : defaultOf(manifest, field);
    const needed = required.includes(field.name);
    const schema = { ...fieldSchema(field, manifest, { kind, needed }), ...(value !== undefined && { default: value }) };
    properties[field.name] = needed ? schema : optional(schema, kind);
  }
  Object.assign(properties, beyondFields(task, manifest, { kind, fields }));
  for (const file of files) Object.assign(properties, fileProperties(file, manifest, { kind, needed: required.includes(file.name) }));
  if (priceOnly)
    for (const field of PRICE_FIELDS) properties[field.name] ??= optional(fieldSchema(field, manifest, { kind, needed: false }), kind);
  return {
    slug: manifest.slug,
    properties,
    required: required.filter((name) => !files.some((file) => file.name === name && file.list !== undefined)),
    rules: [
      ...files.flatMap((file) => fileRules(file, manifest, { kind, needed: required.includes(file.name) })),
      ...voiceRules(fields, manifest),
    ],
  };
}

/** Parameters that the manifest names without a type, and what public clients send to every model. */
function beyondFields(
  task: Task,
  manifest: Manifest,
  { kind, fields }: { readonly kind: BodyKind; readonly fields: readonly Field[] },
): Readonly<Record<string, Schema>> {
  const has = (name: string): boolean => fields.some((field) => field.name === name);
  const dials = TASK_ROWS[task].fields.filter(({ name, dial }) => dial !== undefined && !has(name));
  return {
    ...Object.fromEntries([...extraParamsOf(manifest).untyped].map((name) => [name, {}])),
    ...Object.fromEntries(dials.map((field) => [field.name, dialSchema(field, kind)])),
  };
}

function fileProperties(
  file: FileField,
  manifest: Manifest,
  options: { readonly kind: BodyKind; readonly needed: boolean },
): Readonly<Record<string, Schema>> {
  const { kind, needed } = options;
  const { name, list } = file;
  const one = fileSchema(file.kind, kind);
  return {
    [name]: needed && list === undefined ? one : optional(one, kind),
    ...(list !== undefined && { [list]: optional(fileListSchema(file, manifest, kind), kind) }),
  };
}

/** A voice belongs to a language. */
function voiceRules(fields: readonly Field[], { languages = [] }: Manifest): readonly Schema[] {
  if (languages.length < 2 || !fields.some(({ spoken }) => spoken === "voice")) return [];
  const voicesOf = (language: (typeof languages)[number] | undefined): Schema => ({
    enum: [...(language?.voices ?? []).map((voice) => voice.slug), ...NONE],
  });
  const speaking = languages.map((language) => ({
    properties: { lang: { const: language.slug }, voice: voicesOf(language) },
    required: ["lang"],
  }));
  // Without a language it is the first.
  return [{ anyOf: [...speaking, { properties: { lang: { enum: NONE }, voice: voicesOf(languages[0]) } }] }];
}

/** What counts as absent. */
const NONE: readonly unknown[] = [null, ""];
