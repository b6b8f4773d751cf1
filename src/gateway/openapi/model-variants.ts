import { isDeepStrictEqual } from "node:util";
import { when, type Schema } from "./schema.ts";

/** What one model makes of a task: the schema of each field that it takes, and which of them must be there. */
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
  /** What single models narrow: `if` the model is this one, `then` its own limits. */
  readonly rules: readonly Schema[];
}

/**
 * Flat fields for clients that generate types, and exact limits per model for those that validate. `finish` is applied to each property
 * once it is merged; `absent` is the schema of a field that a model does not take.
 */
export function mergeVariants(
  variants: readonly Variant[],
  { finish, absent }: { readonly finish: (schema: Schema, isRequired: boolean) => Schema; readonly absent: Schema | null },
): Merged {
  const names = [...new Set(variants.flatMap(({ properties }) => Object.keys(properties)))];
  const required = names.filter((name) => variants.every((variant) => variant.required.includes(name)));
  const widest = Object.fromEntries(
    names.map(
      (name) =>
        [
          name,
          widestOf(variants.flatMap(({ properties }): readonly Schema[] => (name in properties ? [properties[name] ?? {}] : []))),
        ] as const,
    ),
  );
  const finished = Object.fromEntries(names.map((name) => [name, finish(widest[name] ?? {}, required.includes(name))]));
  const rules = variants.flatMap((variant) => {
    const narrowed = narrowings(variant, { names, widest, finish, absent });
    const own = variant.required.filter((name) => !required.includes(name));
    if (Object.keys(narrowed).length === 0 && own.length === 0 && variant.rules.length === 0) return [];
    const rule = {
      ...(Object.keys(narrowed).length > 0 && { properties: narrowed }),
      ...(own.length > 0 && { required: own }),
      ...(variant.rules.length > 0 && { allOf: variant.rules }),
    };
    return [whenModel(variant.slug, rule, variants.length)];
  });
  return { properties: finished, required, rules };
}

/** Of one model alone the rules hold without a condition. */
function whenModel(slug: string, rule: Schema, models: number): Schema {
  return models === 1 ? rule : when({ properties: { model: { const: slug } }, required: ["model"] }, rule);
}

function narrowings(
  { properties, required }: Variant,
  {
    names,
    widest,
    finish,
    absent,
  }: {
    readonly names: readonly string[];
    readonly widest: Readonly<Record<string, Schema>>;
    readonly finish: (schema: Schema, isRequired: boolean) => Schema;
    readonly absent: Schema | null;
  },
): Readonly<Record<string, Schema>> {
  const own: Record<string, Schema> = {};
  for (const name of names) {
    const schema = properties[name];
    if (schema === undefined) {
      if (absent !== null) own[name] = absent;
    } else if (!isDeepStrictEqual(schema, widest[name])) own[name] = finish(schema, required.includes(name));
  }
  return own;
}

/** One schema that allows what any of them allows. */
function widestOf(schemas: readonly Schema[]): Schema {
  const [first = {}, ...others] = schemas;
  if (others.every((other) => isDeepStrictEqual(other, first))) return first;
  if (typeof first["type"] !== "string" || others.some((other) => other["type"] !== first["type"])) return { anyOf: distinct(schemas) };
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
