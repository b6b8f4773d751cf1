import { isAbsent, readNumber } from "../../core/field-value.ts";
import { invalid } from "./errors.ts";

/** Most entries of a page: who asks for more gets so many. */
const MAX_LIMIT = 50;

/** A positive integer of a query; `fallback` for one that is absent. @throws HttpProblem 422 for any other value */
export function positiveOf(query: Readonly<Record<string, unknown>>, name: string, fallback: number): number {
  const given = query[name];
  if (isAbsent(given)) return fallback;
  const read = readNumber(given, { min: 1, integer: true });
  if (!read.ok) throw invalid({ [name]: [`The ${name} field ${read.problem}`] });
  return read.value;
}

/** `limit` of a query, clamped; deAPI's Python SDK calls it `per_page`. @throws HttpProblem 422 */
export function limitOf(query: Readonly<Record<string, unknown>>, fallback: number): number {
  return Math.min(MAX_LIMIT, positiveOf(query, "limit", positiveOf(query, "per_page", fallback)));
}
