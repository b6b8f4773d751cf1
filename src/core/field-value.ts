import type { ParamValue } from "../protocol/job.ts";
import { urlProblem } from "./url-syntax.ts";

/** A field as JSON, a form or a command line gives it, read as one kind of value; `problem` completes "The x field ...". */
export type FieldValue<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

const ok = <T>(value: T): FieldValue<T> => ({ ok: true, value });
const no = (problem: string): FieldValue<never> => ({ ok: false, problem });

/** Absent, in every way that clients say so: missing, null, an empty or blank text, an empty list. */
export function isAbsent(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return typeof value === "string" ? value.trim() === "" : Array.isArray(value) && value.length === 0;
}

export interface Bounds {
  readonly min?: number | undefined;
  readonly max?: number | undefined;
}

/** A text of `min` to `max` characters. */
export function readText(value: unknown, { min = 0, max = Number.POSITIVE_INFINITY }: Bounds): FieldValue<string> {
  if (typeof value !== "string") return no("must be a string.");
  // A character may be two units of a string.
  if (value.length < min || (value.length < 2 * min && charsOf(value) < min)) return no(`must be at least ${min} characters.`);
  if (value.length > max && charsOf(value) > max) return no(`must not be greater than ${max} characters.`);
  return ok(value);
}

function charsOf(text: string): number {
  return Array.from(text).length;
}

/** One text or up to `maxItems` of them, each of `min` to `max` characters; a form may give the list as JSON. */
export function readTexts(
  value: unknown,
  { maxItems, ...bounds }: Bounds & { readonly maxItems: number },
): FieldValue<string | readonly string[]> {
  if (typeof value === "string" && !value.startsWith("[")) return readText(value, bounds);
  const list = typeof value === "string" ? parsedList(value) : value;
  if (!Array.isArray(list)) return typeof value === "string" ? readText(value, bounds) : no("must be a string or a list of strings.");
  if (list.length > maxItems) return no(`must not have more than ${maxItems} items.`);
  const texts: string[] = [];
  for (const member of list as readonly unknown[]) {
    const read = readText(member, bounds);
    if (!read.ok) return no(`must hold strings only, and each ${read.problem}`);
    texts.push(read.value);
  }
  return ok(texts);
}

/** Null for a text that only begins like a list. */
function parsedList(text: string): readonly string[] | null {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((member) => typeof member === "string") ? value : null;
  } catch {
    return null;
  }
}

export function readChoice(value: unknown, choices: readonly string[]): FieldValue<string> {
  const choice = typeof value === "number" ? String(value) : value;
  return typeof choice === "string" && choices.includes(choice) ? ok(choice) : no(`must be one of ${choices.join(", ")}.`);
}

/** An http or https URL without a user name. Whether it may be fetched is judged where it is. */
export function readUrl(value: unknown, { max = Number.POSITIVE_INFINITY }: Bounds): FieldValue<string> {
  const read = readText(value, { max });
  if (!read.ok) return read;
  const problem = urlProblem(read.value, { allowHttp: true });
  return problem === null ? read : no(problem);
}

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function numberOf(value: unknown): number | null {
  const number = typeof value === "string" && DECIMAL.test(value.trim()) ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : null;
}

/** A finite number, also as decimal text, from `min` to `max`. */
export function readNumber(value: unknown, { min, max, integer = false }: Bounds & { readonly integer?: boolean }): FieldValue<number> {
  const number = numberOf(value);
  if (number === null) return no(integer ? "must be an integer." : "must be a number.");
  if (integer && !Number.isInteger(number)) return no("must be an integer.");
  if (min !== undefined && number < min) return no(`must be at least ${min}.`);
  if (max !== undefined && number > max) return no(`must not be greater than ${max}.`);
  return ok(number);
}

const BOOLEANS: ReadonlyMap<unknown, boolean> = new Map<unknown, boolean>([
  [true, true],
  [false, false],
  [1, true],
  [0, false],
  ["1", true],
  ["0", false],
  ["true", true],
  ["false", false],
]);

export function readBoolean(value: unknown): FieldValue<boolean> {
  const boolean = BOOLEANS.get(typeof value === "string" ? value.trim().toLowerCase() : value);
  return boolean === undefined ? no("must be true or false.") : ok(boolean);
}

/** 2^32: torch's CPU generator sees only the low 32 bits of a seed. */
const SEEDS = 2 ** 32;

/** A seed: null for -1 (random), else 0..2^32-1; wider integers count modulo 2^32, up to 2^53-1 where numbers stop being exact. */
export function readSeed(value: unknown): FieldValue<number | null> {
  const seed = numberOf(value);
  if (seed === -1) return ok(null);
  if (seed === null || !Number.isSafeInteger(seed) || seed < 0) return no(`must be -1 or an integer from 0 to ${Number.MAX_SAFE_INTEGER}.`);
  return ok(seed % SEEDS);
}

const MAX_DEPTH = 8;

/** Any JSON value, at most eight levels deep. */
export function readJson(value: unknown): FieldValue<ParamValue> {
  return isParamValue(value, 0) ? ok(value) : no("must be a JSON value.");
}

function isParamValue(value: unknown, depth: number): value is ParamValue {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object" || depth >= MAX_DEPTH) return false;
  return Object.values(value).every((member) => isParamValue(member, depth + 1));
}
