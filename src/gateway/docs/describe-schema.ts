import type { Schema } from "../openapi/schema.ts";

/** What a value may be, in words. `resolve` follows a reference. */
export function describeSchema(schema: Schema, resolve: (schema: Schema) => Schema): string {
  const found = resolve(schema);
  const { anyOf, description } = found;
  const kinds = Array.isArray(anyOf) ? alternatives(anyOf as readonly Schema[], resolve) : typeWords(found, resolve);
  const parts = [kinds, ...limits(found), ...defaults(found)].filter((part) => part !== "");
  const note = typeof description === "string" ? description.replace(/\.$/, "") : "";
  return [parts.join(", "), note].filter((part) => part !== "").join(". ");
}

/** Without the empty text and null, which say that there is none. */
function alternatives(schemas: readonly Schema[], resolve: (schema: Schema) => Schema): string {
  const told = schemas.filter(({ type, maxLength }) => type !== "null" && maxLength !== 0);
  const isNullable = told.length < schemas.length && schemas.some(({ type }) => type === "null");
  const words = [...new Set(told.map((each) => describeSchema({ ...resolve(each), description: undefined }, resolve)))];
  return words.join(" or ") + (isNullable ? " or null" : "");
}

function typeWords({ type, enum: values, const: constant, format, items }: Schema, resolve: (schema: Schema) => Schema): string {
  if (constant !== undefined) return JSON.stringify(constant);
  if (Array.isArray(values))
    return (values as readonly unknown[])
      .map((value) => (typeof value === "string" && value !== "" ? value : JSON.stringify(value)))
      .join(" | ");
  const types = (Array.isArray(type) ? type : [type]).filter((each) => each !== undefined) as readonly string[];
  const words = types.map((each) => WORDS[typeof format === "string" && each === "string" ? format : each] ?? each);
  const list = items === undefined ? "" : ` of ${describeSchema({ ...resolve(items as Schema), description: undefined }, resolve)}`;
  return words.length === 0 ? "anything" : words.join(" or ") + list;
}

const WORDS: Readonly<Record<string, string>> = {
  string: "text",
  boolean: "true or false",
  uri: "URL",
  uuid: "UUID",
  binary: "file",
  "date-time": "time (ISO 8601)",
  array: "list",
};

function limits({ minimum, maximum, minLength, maxLength, maxItems }: Schema): readonly string[] {
  const number = (value: unknown): string => (value === Number.MAX_SAFE_INTEGER ? "2^53 - 1" : JSON.stringify(value));
  const range = (low: unknown, high: unknown, unit: string): readonly string[] => {
    if (low === undefined && high === undefined) return [];
    if (low === undefined || (low === 0 && unit !== "")) return high === undefined ? [] : [`at most ${number(high)}${unit}`];
    return [high === undefined ? `at least ${number(low)}${unit}` : `${number(low)} to ${number(high)}${unit}`];
  };
  return [
    ...range(minimum, maximum, ""),
    ...range(minLength === 1 && maxLength !== undefined ? undefined : minLength, maxLength, " characters"),
    ...range(undefined, maxItems, " items"),
  ];
}

function defaults({ default: value }: Schema): readonly string[] {
  return value === undefined ? [] : [`default ${typeof value === "string" ? value : JSON.stringify(value)}`];
}
