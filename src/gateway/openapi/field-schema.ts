import { boundsOf, choicesOf } from "../../core/plan-submit.ts";
import type { Field } from "../../core/task-fields.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { nullable, type Schema } from "./schema.ts";
import { urlSchema } from "./shared-fields.ts";

/** How a body is written: JSON tells numbers from texts and has null; a form has texts and files. */
export type BodyKind = "json" | "form";

interface FieldOptions {
  readonly kind: BodyKind;
  /** A request must bring it. */
  readonly needed: boolean;
}

/** NUL is refused in every text. */
const TEXT: Schema = { pattern: "^[^\\u0000]*$" };
/** A blank text counts as absent: one character at least is none of what `String.trim` takes away. */
const FULL_TEXT: Schema = { minLength: 1, pattern: "^[^\\u0000]*[^\\s\\u0000\\ufeff][^\\u0000]*$" };

/** Yes or no, or 1 and 0. */
export const BOOLEAN: Schema = { anyOf: [{ type: "boolean" }, { type: "integer", enum: [0, 1] }] };

/** One field of a task as one model takes it, where it comes. */
export function fieldSchema(field: Field, manifest: Manifest, options: FieldOptions): Schema {
  const { min, max } = boundsOf(manifest, field);
  const range: Schema = { ...(min !== undefined && { minimum: min }), ...(max !== undefined && { maximum: max }) };
  switch (field.kind) {
    case "text":
      return textSchema(field, manifest, options);
    case "texts":
      return textsSchema(field, options);
    case "choice":
      return { type: "string", enum: choicesOf(manifest, field) };
    case "url":
      return urlSchema(true, "A link to the file itself, fetched when the job runs. Pages that hold a player are not followed.");
    case "boolean":
      return BOOLEAN;
    case "seed":
      return {
        type: "integer",
        minimum: -1,
        maximum: Number.MAX_SAFE_INTEGER,
        description: "-1: random; above 2^32 - 1 it counts modulo 2^32.",
      };
    case "integer":
    case "number":
      return field.values === undefined
        ? { type: field.kind, ...range }
        : { type: field.kind, enum: field.values.filter((value) => value >= (min ?? value) && value <= (max ?? value)) };
  }
}

function textSchema(field: Field, manifest: Manifest, { needed }: FieldOptions): Schema {
  const { min = 0, max } = boundsOf(manifest, field);
  if (field.spoken !== undefined && manifest.languages !== undefined) return { type: "string", enum: spoken(manifest, field.spoken) };
  const full = needed ? { ...FULL_TEXT, minLength: Math.max(1, min) } : { ...TEXT, ...(min > 0 && { minLength: min }) };
  return { type: "string", ...full, ...(max !== undefined && { maxLength: max }) };
}

function textsSchema({ maxItems }: Field, { needed }: FieldOptions): Schema {
  const one: Schema = { type: "string", ...FULL_TEXT };
  const list = { type: "array", items: { type: "string", ...TEXT, minLength: 1 }, ...(needed && { minItems: 1 }), maxItems };
  return { anyOf: [one, list] };
}

function spoken({ languages = [] }: Manifest, kind: "lang" | "voice"): readonly string[] {
  return [
    ...new Set(kind === "lang" ? languages.map(({ slug }) => slug) : languages.flatMap(({ voices }) => voices.map(({ slug }) => slug))),
  ];
}

/** The value, or what stands for none: null, and for texts the empty one. A form has no null. */
export function optional(schema: Schema, kind: BodyKind): Schema {
  const { type, enum: values, anyOf, description, default: fallback, ...rest } = schema;
  const notes = { ...(fallback !== undefined && { default: fallback }), ...(description !== undefined && { description }) };
  const none = kind === "json" ? [{ type: "null" }] : [];
  if (Array.isArray(anyOf)) {
    const some = anyOf as readonly Schema[];
    return { anyOf: [...some, ...(some.some(refusesEmpty) ? [EMPTY] : []), ...none], ...notes };
  }
  if (refusesEmpty(schema)) return { anyOf: [{ type, ...rest }, EMPTY, ...none], ...notes };
  if (kind === "form" || typeof type !== "string") return schema;
  return nullable(type, {
    ...(Array.isArray(values) && { enum: [...(values as readonly unknown[]), ...(type === "string" ? [""] : []), null] }),
    ...rest,
    ...notes,
  });
}

const EMPTY: Schema = { type: "string", maxLength: 0 };

/** Files apart: a form says that there is none by an empty one. */
function refusesEmpty({ type, enum: values, format, minLength, pattern }: Schema): boolean {
  if (type !== "string" || values !== undefined || format === "binary") return false;
  return minLength !== undefined || format !== undefined || (pattern !== undefined && pattern !== TEXT["pattern"]);
}

/** A field that the model does not have: left out, or a value that asks for nothing. */
export function absentSchema(field: Field | undefined, kind: BodyKind): Schema {
  const { neutral = [], fallback } = field ?? {};
  return { enum: [...(kind === "json" ? [null, ""] : [""]), ...neutral, ...(fallback === undefined ? [] : [fallback])] };
}

/** What public clients send to every model: taken within these bounds, and not used by this one. */
export function dialSchema({ kind: type, dial }: Field, kind: BodyKind): Schema {
  return optional({ type, minimum: dial?.min, maximum: dial?.max }, kind);
}
