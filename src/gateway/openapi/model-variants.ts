import { isDeepStrictEqual } from "node:util";
import type { Schema } from "./schema.ts";

/** What one model makes of a task: the schema of each field, finished, and which of them must be there. */
export interface Variant {
  readonly slug: string;
  readonly properties: Readonly<Record<string, Schema>>;
  readonly required: readonly string[];
  /** Rules beyond single fields. */
  readonly rules: readonly Schema[];
}

export interface Merged {
  /** Each field as wide as any model takes it. */
  readonly properties: Readonly<Record<string, Schema>>;
  /** What every model requires. */
  readonly required: readonly string[];
  /** What single models narrow. */
  readonly rules: readonly Schema[];
}

/**
 * Flat fields for clients that generate types, and exact limits per model for those that validate: `anyOf` over the models, each with what
 * it narrows. `absent` is the schema of a field that a model does not have.
 */
export function mergeVariants(variants: readonly Variant[], absent: (name: string) => Schema): Merged {
  const names = [...new Set(variants.flatMap(({ properties }) => Object.keys(properties)))];
  const properties = Object.fromEntries(names.map((name) => [name, widestIn(variants, name, absent)]));
  const required = names.filter((name) => variants.every((variant) => variant.required.includes(name)));
  const own = variants.map((variant) => narrowed(variant, { properties, required, absent }));
  if (own.every((rule) => Object.keys(rule).length === 0)) return { properties, required, rules: [] };
  const [only] = own;
  if (variants.length === 1 && only !== undefined) return { properties, required, rules: [only] };
  const anyOf = variants.map(({ slug }, index) => {
    const { properties: limits, ...rest } = own[index] ?? {};
    return { properties: { model: { const: slug }, ...(limits as Schema | undefined) }, ...rest };
  });
  return { properties, required, rules: [{ anyOf }] };
}

/**
 * A default stands only where every model has it, for generated clients send it; a minimum only where it is none of the numbers that ask
 * for nothing of a model without the field.
 */
function widestIn(variants: readonly Variant[], name: string, absent: (name: string) => Schema): Schema {
  const schemas = variants.flatMap(({ properties }) => (name in properties ? [properties[name] ?? {}] : []));
  const widest = widestOf(schemas);
  if (schemas.length === variants.length) return widest;
  const { default: _fallback, minimum, ...rest } = widest;
  const neutral = ((absent(name)["enum"] ?? []) as readonly unknown[]).filter((value) => typeof value === "number");
  return typeof minimum === "number" ? { ...rest, minimum: Math.min(minimum, ...neutral) } : rest;
}

function narrowed(
  { properties, required, rules }: Variant,
  merged: Pick<Merged, "properties" | "required"> & { readonly absent: (name: string) => Schema },
): Schema {
  const limits: Record<string, Schema> = {};
  for (const [name, widest] of Object.entries(merged.properties)) {
    const schema = properties[name] ?? merged.absent(name);
    if (!isDeepStrictEqual(schema, widest)) limits[name] = schema;
  }
  const more = required.filter((name) => !merged.required.includes(name));
  return {
    ...(Object.keys(limits).length > 0 && { properties: limits }),
    ...(more.length > 0 && { required: more }),
    ...(rules.length > 0 && { allOf: rules }),
  };
}

/** One schema that allows what any of them allows. */
function widestOf(schemas: readonly Schema[]): Schema {
  const [first = {}, ...others] = schemas;
  if (others.every((other) => isDeepStrictEqual(other, first))) return first;
  const types = [
    ...new Set(schemas.flatMap(({ type }) => (typeof type === "string" || Array.isArray(type) ? (type as string | string[]) : "any"))),
  ];
  if (types.includes("any") || types.filter((type) => type !== "null").length !== 1) return { anyOf: distinct(schemas) };
  const shared = Object.entries(first).filter(([key, value]) => others.every((other) => isDeepStrictEqual(other[key], value)));
  const all = (key: string): readonly unknown[] | null =>
    schemas.every((schema) => key in schema) ? schemas.map((schema) => schema[key]) : null;
  const bound = (key: string, pick: (...values: readonly number[]) => number): Schema => {
    const values = all(key);
    return values === null ? {} : { [key]: pick(...(values as readonly number[])) };
  };
  const enums = all("enum") as readonly (readonly unknown[])[] | null;
  return {
    ...Object.fromEntries(shared),
    type: types.length === 1 ? types[0] : types,
    ...bound("minimum", Math.min),
    ...bound("maximum", Math.max),
    ...bound("minLength", Math.min),
    ...bound("maxLength", Math.max),
    ...bound("maxItems", Math.max),
    ...(enums !== null && { enum: [...new Set(enums.flat())] }),
  };
}

function distinct(schemas: readonly Schema[]): readonly Schema[] {
  return schemas.filter((schema, index) => schemas.findIndex((other) => isDeepStrictEqual(other, schema)) === index);
}
