import { parseHttpDate } from "../../lib/http-date.ts";

/** What tells one state of a representation from another. */
export interface Validators {
  /** As sent, with its quotes, and `W/` before a weak one. */
  readonly etag: string;
  /** Unix ms; null where no such time is known: then conditions by date count as absent. */
  readonly modifiedAt: number | null;
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Conditions of a GET or HEAD on a representation that exists, in the order of RFC 9110, 13.2.2.
 *   serve          the answer that there would be without conditions
 *   not-modified   304
 *   failed         412
 */
export function decidePreconditions(headers: Headers, validators: Validators): "serve" | "not-modified" | "failed" {
  const ifMatch = textOf(headers["if-match"]);
  const modified = validators.modifiedAt === null ? null : wholeSeconds(validators.modifiedAt);
  if (ifMatch !== null) {
    if (!names(ifMatch, validators.etag, isSameStrong)) return "failed";
  } else {
    const since = dateOf(headers["if-unmodified-since"]);
    if (modified !== null && since !== null && modified > since) return "failed";
  }
  const ifNoneMatch = textOf(headers["if-none-match"]);
  if (ifNoneMatch !== null) return names(ifNoneMatch, validators.etag, isSameWeak) ? "not-modified" : "serve";
  const since = dateOf(headers["if-modified-since"]);
  return modified !== null && since !== null && modified <= since ? "not-modified" : "serve";
}

/** Whether a `Range` counts: `If-Range` names this very state, or there is none (RFC 9110, 13.1.5). */
export function rangeApplies(headers: Headers, validators: Validators): boolean {
  const ifRange = textOf(headers["if-range"]);
  if (ifRange === null) return true;
  if (/^(?:W\/)?"/.test(ifRange.trim())) return isSameStrong(ifRange.trim(), validators.etag);
  const date = parseHttpDate(ifRange);
  // Results never change after they are stored, so that their date is a strong validator.
  return date !== null && validators.modifiedAt !== null && date === wholeSeconds(validators.modifiedAt);
}

const TAG = /(?:W\/)?"[\x21\x23-\x7E\x80-\xFF]*"/g;

/** `*`, or a list with this tag in it. */
function names(list: string, etag: string, isSame: (a: string, b: string) => boolean): boolean {
  if (list.trim() === "*") return true;
  return (list.match(TAG) ?? []).some((tag) => isSame(tag, etag));
}

function isSameStrong(a: string, b: string): boolean {
  return a === b && !a.startsWith("W/");
}

function isSameWeak(a: string, b: string): boolean {
  return a.replace(/^W\//, "") === b.replace(/^W\//, "");
}

function textOf(value: string | string[] | undefined): string | null {
  if (value === undefined) return null;
  return Array.isArray(value) ? value.join(", ") : value;
}

function dateOf(value: string | string[] | undefined): number | null {
  return typeof value === "string" ? parseHttpDate(value) : null;
}

function wholeSeconds(at: number): number {
  return Math.floor(at / 1_000) * 1_000;
}
