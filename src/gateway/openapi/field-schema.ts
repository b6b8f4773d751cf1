import { boundsOf, choicesOf } from "../../core/plan-submit.ts";
import type { Field } from "../../core/task-fields.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { nullable, type Schema } from "./schema.ts";
import { urlSchema } from "./shared-fields.ts";

/** How a body is written: JSON tells numbers from texts and has null; a form has texts and files. */
export type BodyKind = "json" | "form";

/** A text that is not blank: a blank one counts as absent. */
export const FULL_TEXT: Schema = { minLength: 1, pattern: "\\S" };
/** The ways in which a form says yes and no. */
const FORM_BOOLEAN: Schema = { anyOf: [{ type: "boolean" }, { type: "integer", enum: [0, 1] }] };

/** One field of a task as one model takes it, without what stands for its absence. */
export function fieldSchema(field: Field, manifest: Manifest, kind: BodyKind): Schema {
  const { min, max } = boundsOf(manifest, field);
  const range: Schema = { ...(min !== undefined && { minimum: min }), ...(max !== undefined && { maximum: max }) };
  switch (field.kind) {
    case "text":
      return textSchema(field, manifest);
    case "texts": {
      const item = { type: "string", ...(field.required === true && FULL_TEXT) };
      return { anyOf: [item, { type: "array", items: { type: "string", minLength: min ?? 0 }, minItems: 1, maxItems: field.maxItems }] };
    }
    case "choice":
      return { type: "string", enum: choicesOf(manifest, field) };
    case "url":
      return urlSchema(true, "A link to the file itself, fetched when the job runs. Pages that hold a player are not followed.");
    case "boolean":
      return kind === "json" ? { type: "boolean" } : FORM_BOOLEAN;
    case "seed":
      return {
        type: "integer",
        minimum: -1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: "-1: random; above 2^32 - 1 it counts modulo 2^32.",
      };
    case "integer":
    case "number":
      return field.values === undefined ? { type: field.kind, ...range } : { type: field.kind, enum: field.values };
  }
}

function textSchema(field: Field, manifest: Manifest): Schema {
  const { min = 0, max } = boundsOf(manifest, field);
  if (field.spoken !== undefined && manifest.languages !== undefined) return { type: "string", enum: spoken(manifest, field.spoken) };
  const full = field.required === true ? { ...FULL_TEXT, minLength: Math.max(1, min) } : {};
  return { type: "string", ...(min > 0 && { minLength: min }), ...full, ...(max !== undefined && { maxLength: max }) };
}

function spoken({ languages = [] }: Manifest, kind: "lang" | "voice"): readonly string[] {
  return [
    ...new Set(kind === "lang" ? languages.map(({ slug }) => slug) : languages.flatMap(({ voices }) => voices.map(({ slug }) => slug))),
  ];
}

/** The value, or one of the ways to leave an optional field out. */
export function optional(schema: Schema, kind: BodyKind): Schema {
  if (kind === "form") return schema;
  const { type, enum: values, description, ...rest } = schema;
  const note = description === undefined ? {} : { description };
  if (typeof type !== "string") return { anyOf: [schema, { type: "null" }], ...note };
  if (Array.isArray(values)) return { type: [type, "null"], enum: [...(values as readonly unknown[]), null], ...rest, ...note };
  return nullable(type, { ...rest, ...note });
}
