import { extraParamsOf } from "../../core/extra-params.ts";
import { isRequired, supports } from "../../core/plan-submit.ts";
import { TASK_ROWS, type Field, type TaskRow } from "../../core/task-fields.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { Task } from "../../protocol/task.ts";
import { fieldSchema, optional, type BodyKind } from "./field-schema.ts";
import { fileListSchema, fileRules, fileSchema } from "./file-schema.ts";
import { mergeVariants, type Variant } from "./model-variants.ts";
import { ABSENT, modelSchema, NO_LORAS, SECRET_NEEDS_URL, webhookFields } from "./shared-fields.ts";
import { when, type Schema } from "./schema.ts";

export interface BodyOptions {
  readonly kind: BodyKind;
  /** Those that have the task. */
  readonly models: readonly Manifest[];
  readonly allowHttpWebhooks: boolean;
}

/** The body of a submit: what the schema allows is accepted, but for what only a file's content tells. */
export function submitBody(task: Task, options: BodyOptions): Schema {
  return bodyOf(TASK_ROWS[task], options);
}

export function bodyOf(row: TaskRow, { kind, models, allowHttpWebhooks }: BodyOptions): Schema {
  const finish = (schema: Schema, isNeeded: boolean): Schema => (isNeeded ? schema : optional(schema, kind));
  const variants = models.map((manifest) => variantOf(row, manifest, kind));
  // Without a model nothing is accepted, but what would be sent is worth knowing.
  const shown = variants.length > 0 ? variants : [variantOf(row, NO_MODEL, kind)];
  const { properties, required, rules } = mergeVariants(shown, { finish, absent: kind === "json" ? ABSENT : null });
  const takesLoras = row.fields.some(({ name }) => name === "width");
  const all = [SECRET_NEEDS_URL, ...rules];
  return {
    type: "object",
    properties: {
      model: modelSchema(models),
      ...properties,
      ...(takesLoras && kind === "json" && { loras: NO_LORAS }),
      ...Object.fromEntries(Object.entries(webhookFields(allowHttpWebhooks)).map(([name, schema]) => [name, optional(schema, kind)])),
    },
    required: ["model", ...required],
    allOf: all,
  };
}

/** Limits of nobody: the table's own. */
const NO_MODEL = { slug: "", limits: {}, features: {}, defaults: {}, options: {} } as unknown as Manifest;

function variantOf(row: TaskRow, manifest: Manifest, kind: BodyKind): Variant {
  const { typed, untyped } = extraParamsOf(manifest);
  const fields = [...row.fields, ...typed].filter((field) => manifest === NO_MODEL || supports(manifest, field));
  const files = (row.files ?? []).filter(({ feature }) => feature === undefined || manifest.features[feature] === true);
  const properties: Record<string, Schema> = {};
  for (const field of fields) properties[field.name] = { ...fieldSchema(field, manifest, kind), ...defaultOf(field, manifest) };
  for (const name of untyped) properties[name] = {};
  for (const file of files) {
    properties[file.name] = fileSchema(file.kind, kind);
    if (file.list !== undefined) properties[file.list] = fileListSchema(file, manifest, kind);
  }
  return {
    slug: manifest.slug,
    properties,
    required: [
      ...fields.filter((field) => isRequired(manifest, field)).map(({ name }) => name),
      ...files.filter(({ required, list }) => required === true && list === undefined).map(({ name }) => name),
    ],
    rules: [...files.flatMap((file) => fileRules(file, manifest)), ...voiceRules(fields, manifest)],
  };
}

function defaultOf({ name, kind, aligned, fallback }: Field, manifest: Manifest): Schema {
  if (kind === "seed") return { default: -1 };
  // A size that is left out is the image's, where the task has one.
  const value = aligned === true ? undefined : (manifest.defaults[name] ?? fallback);
  return value === undefined ? {} : { default: value };
}

/** A voice belongs to a language. */
function voiceRules(fields: readonly Field[], { languages = [] }: Manifest): readonly Schema[] {
  if (languages.length < 2 || !fields.some(({ spoken }) => spoken === "voice")) return [];
  return languages.map(({ slug, voices }) =>
    when(
      { properties: { lang: { const: slug } }, required: ["lang"] },
      { properties: { voice: { enum: [...voices.map((voice) => voice.slug), null] } } },
    ),
  );
}
