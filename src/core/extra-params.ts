import { AppError } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Field } from "./task-fields.ts";

/** `options` that mean the same in every family; the others are the family's own. */
const SHARED_OPTIONS: ReadonlySet<string> = new Set(["params", "passParams", "prices"]);

/** What of a manifest's `options` is the family's. */
export function familyOptions({ options }: Pick<Manifest, "options">): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => !SHARED_OPTIONS.has(name)));
}

/**
 * `options.prices`: what a job costs, by task's name (`transcribe` included); a task that is not named is free.
 * @throws AppError MANIFEST_INVALID
 */
export function pricesOf({ slug, options }: Pick<Manifest, "slug" | "options">): Readonly<Record<string, number>> {
  const prices = options["prices"] ?? {};
  if (typeof prices !== "object" || prices === null || Array.isArray(prices)) throw invalid(slug, "options.prices", prices, "an object");
  for (const [task, price] of Object.entries(prices)) {
    if (typeof price !== "number" || price < 0) throw invalid(slug, `options.prices.${task}`, price, "a number from 0 on");
  }
  return prices as Readonly<Record<string, number>>;
}

/** Parameters of a model beyond its tasks' own, from the manifest's `options`. */
export interface ExtraParams {
  /** Declared as `{name, type, min?, max?, default?, required?}`: read and bounded as any field. */
  readonly typed: readonly Field[];
  /** Declared by name alone: any JSON value. */
  readonly untyped: ReadonlySet<string>;
  /** `passParams: true`: whatever comes beside the task's own fields is taken too. */
  readonly passAll: boolean;
}

const TYPES: readonly Field["kind"][] = ["text", "integer", "number", "boolean"];

/** @throws AppError MANIFEST_INVALID when `options.params` is no list of names or typed parameters. */
export function extraParamsOf({ slug, options }: Pick<Manifest, "slug" | "options">): ExtraParams {
  const { params = [], passParams = false } = options;
  if (typeof passParams !== "boolean") throw invalid(slug, "options.passParams", passParams, "true or false");
  if (!Array.isArray(params)) throw invalid(slug, "options.params", params, "a list");
  const typed: Field[] = [];
  const untyped = new Set<string>();
  for (const [index, param] of (params as readonly unknown[]).entries()) {
    if (typeof param === "string") untyped.add(param);
    else typed.push(typedParam(slug, `options.params[${index}]`, param));
  }
  return { typed, untyped, passAll: passParams };
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
