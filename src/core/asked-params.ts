import type { JobParams, ParamValue } from "../protocol/job.ts";
import { REDACTED, redactUrl } from "../protocol/redact.ts";

/** In characters. */
export interface ParamsRoom {
  /** Of one text. */
  readonly text: number;
  /** Of all values together. */
  readonly whole: number;
}

export interface AskedParams {
  readonly params: JobParams;
  /** Texts were cut, or members left out: there was no room for them. */
  readonly isCut: boolean;
}

/** What a number, a boolean or a member's name is counted as. */
const SMALL_CHARS = 16;
const SECRET_NAME = /password|passwd|secret|token|credential|authorization|api[_-]?key/i;

/**
 * A request's parameters as its client may see them again, in bounded room. Secrets are taken out: what signs a URL, and texts under names
 * of secrets, which models that take any parameter may be sent.
 */
export function askedParams(params: JobParams, { text, whole }: ParamsRoom): AskedParams {
  let left = whole;
  let isCut = false;

  const shown = (name: string, value: ParamValue): ParamValue => {
    if (typeof value === "string") return shownText(name, value);
    left -= SMALL_CHARS;
    if (typeof value !== "object" || value === null) return value;
    const members = isList(value) ? value.map((member) => [name, member] as const) : Object.entries(value);
    const kept = members.flatMap(([key, member]) => (hasRoom() ? [[key, shown(key, member)] as const] : []));
    return isList(value) ? kept.map(([, member]) => member) : Object.fromEntries(kept);
  };
  const shownText = (name: string, value: string): string => {
    const clean = SECRET_NAME.test(name) ? REDACTED : /^https?:\/\/\S+$/i.test(value) ? redactUrl(value) : value;
    // No character is cut in two.
    const clipped = clean.slice(0, Math.min(text, left)).replace(/[\uD800-\uDBFF]$/, "");
    if (clipped.length < clean.length) isCut = true;
    left -= Math.max(1, clipped.length);
    return clipped;
  };
  const hasRoom = (): boolean => {
    if (left <= 0) isCut = true;
    return left > 0;
  };
  const kept = Object.entries(params).flatMap(([name, value]) => (hasRoom() ? [[name, shown(name, value)] as const] : []));
  return { params: Object.fromEntries(kept), isCut };
}

function isList(value: object): value is readonly ParamValue[] {
  return Array.isArray(value);
}
