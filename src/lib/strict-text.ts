const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The text of UTF-8 bytes, without a byte order mark; null where they are not UTF-8 (RFC 3629), a surrogate that was encoded included. */
export function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

/**
 * `name=value&...` (application/x-www-form-urlencoded) in their order; null where what it encodes is not UTF-8. A `%` without two hex digits
 * stands for itself, as browsers read it.
 */
export function decodeForm(text: string): readonly (readonly [string, string])[] | null {
  if (text.includes("%") && decodeUtf8(percentDecoded(text)) === null) return null;
  return [...new URLSearchParams(text)];
}

function percentDecoded(text: string): Buffer {
  const bytes = Buffer.from(text).toString("latin1");
  return Buffer.from(
    bytes.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1",
  );
}

/** What no text of ours may hold: half a surrogate pair, which is no character and cannot be encoded, and NUL, at which programs in C end. */
export function textProblem(text: string): string | null {
  if (!text.isWellFormed()) return "holds half of a surrogate pair, which is no character";
  return text.includes("\0") ? "holds a NUL character (U+0000)" : null;
}

/** The first such text in a JSON value, names included: where it stands (`loras[0].name`; empty for the value itself), and what ails it. */
export function findTextProblem(value: unknown, at = ""): { readonly at: string; readonly problem: string } | null {
  if (typeof value === "string") {
    const problem = textProblem(value);
    return problem === null ? null : { at, problem };
  }
  if (typeof value !== "object" || value === null) return null;
  for (const [name, inner] of Object.entries(value)) {
    const problem = textProblem(name);
    if (problem !== null) return { at, problem: `has a name that ${problem}` };
    const path = Array.isArray(value) ? `${at}[${name}]` : at === "" ? name : `${at}.${name}`;
    const found = findTextProblem(inner, path);
    if (found !== null) return found;
  }
  return null;
}

/** Escapes that a text without a problem hardly ever has: without one of them, JSON in good UTF-8 needs no further look. */
const SUSPECT = /\\u(?:[dD][89a-fA-F]|0000)/;

/** As `findTextProblem`, for a value that was parsed from this JSON text. */
export function findJsonTextProblem(json: string, value: unknown): ReturnType<typeof findTextProblem> {
  return SUSPECT.test(json) ? findTextProblem(value) : null;
}
