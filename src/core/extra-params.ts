import { AppError } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Field } from "./task-fields.ts";

/** Parameters of a model beyond its tasks' own, from the manifest's `options`. */
export interface ExtraParams {
  /** Declared as `{name, type, min?, max?, default?, required?}`: read and bounded as any field. */
  readonly typed: readonly Field[];
  /** Declared by name alone: any JSON value. */
  readonly untyped: ReadonlySet<string>;
  /** `passParams: true`: whatever else comes is taken too. */
  readonly passAll: boolean;
}

const TYPES: readonly Field["kind"][] = ["text", "integer", "number", "boolean"];

/** @throws AppError MANIFEST_INVALID when `options.params` is no list of names or typed parameters. */
export function extraParamsOf({ slug, options }: Pick<Manifest, "slug" | "options">): ExtraParams {
  const params = options["params"] ?? [];
  if (!Array.isArray(params)) throw invalid(slug, "options.params", params, "a list");
  const typed: Field[] = [];
  const untyped = new Set<string>();
  for (const [index, param] of (params as readonly unknown[]).entries()) {
    if (typeof param === "string") untyped.add(param);
    else typed.push(typedParam(slug, `options.params[${index}]`, param));
  }
  return { typed, untyped, passAll: options["passParams"] === true };
}

function typedParam(slug: string, where: string, param: unknown): Field {
  if (typeof param !== "object" || param === null) throw invalid(slug, where, param, "a name or an object with name and type");
  const { name, type, required, min, max, default: fallback } = param as Record<string, unknown>;
  if (typeof name !== "string") throw invalid(slug, `${where}.name`, name, "a text");
  const kind = TYPES.find((each) => each === type);
  if (kind === undefined) throw invalid(slug, `${where}.type`, type, `one of ${TYPES.join(", ")}`);
  return {
    name,
    kind,
    required: required === true,
    ...(min === undefined ? {} : { min: limit(slug, `${where}.min`, min) }),
    ...(max === undefined ? {} : { max: limit(slug, `${where}.max`, max) }),
    ...(fallback === undefined ? {} : { fallback: defaultValue(slug, `${where}.default`, fallback) }),
  };
}

function limit(slug: string, where: string, value: unknown): number {
  if (typeof value !== "number") throw invalid(slug, where, value, "a number");
  return value;
}

function defaultValue(slug: string, where: string, value: unknown): string | number | boolean {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  throw invalid(slug, where, value, "a text, number or boolean");
}

function invalid(slug: string, where: string, value: unknown, expected: string): AppError {
  return new AppError(
    "MANIFEST_INVALID",
    `model ${slug}: ${where} is ${JSON.stringify(value)}, expected ${expected}: correct its model.json`,
  );
}
