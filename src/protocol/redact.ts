export const REDACTED = "[redacted]";

/**
 * Where a secret may begin. Every part has a bounded length, and what follows a head is read once by `endOf...`: the work grows with the
 * text, whatever it holds. A pattern that had to find the end of a secret too would try it from every head anew.
 *
 *   url      `://`, perhaps with `user:password@` behind it
 *   scheme   `Bearer` and `Basic` of an Authorization header
 *   name     a field, header, setting or part of a query that is named like a secret
 *   key      the bar of one of our API keys, `<client>|<secret>`
 *   literal  secrets that say what they are: of webhooks, access keys of AWS
 */
const HEAD = new RegExp(
  [
    String.raw`(?<url>:\/\/)`,
    String.raw`(?<scheme>\b(?:bearer|basic)(?:\s|%20){1,8})`,
    String.raw`(?<name>password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|credential|signature|authorization|cookie|(?<![a-z])(?:sig|auth))(?<quote>\\{0,15}["'])?\s{0,4}(?<separator>[:=]|%3D)\s{0,4}`,
    String.raw`(?<key>(?<=[a-z0-9_-])(?:\||%7C)(?=[\w-]{20}))`,
    String.raw`(?<literal>(?<![A-Za-z0-9])(?:whsec_|AKIA|ASIA)(?=[A-Za-z0-9+/]{16}))`,
  ].join("|"),
  "gi",
);

const TOKEN = /[^\s"'<>`\\]*/y;
const AUTHORITY = /[^\s"'<>`\\/?#]*/y;
const CREDENTIALS = /[\w.~+/=|:%-]*/y;
const KEY = /[\w-]*/y;
const LITERAL = /[\w+/=-]*/y;
const PLAIN_VALUE = /[^\s"'\\&,;<>)\]}]*/y;
const ENCODED_PIECE = /[^\s"'\\&,;<>)\]}%]*/y;
const HEADER_VALUE = /[^\r\n"'\\]*/y;
const QUOTE = /\\{0,15}["']/y;
/** Address forms in which all up to the last `@` may be a password: they are ours, and a password in them is often not encoded. */
const CONNECTION = /(?:rediss?|redis\+sentinel|redis\+unix|unix)$/i;

/** Shorter ones are a word of a sentence: "basic setup". */
const MIN_CREDENTIALS = 6;
/** Names that also mean harmless things count outside a query only before a value that is long enough to be a secret: "eos_token=50257". */
const AMBIGUOUS: ReadonlySet<string> = new Set(["token", "sig", "auth", "credential", "signature", "cookie"]);
const MIN_AMBIGUOUS_VALUE = 16;
const MAX_NAME = 64;

/** A piece of the text that is replaced. */
interface Secret {
  readonly from: number;
  readonly to: number;
}

/** A URL's password, and what signs it, replaced. The same rules hold for what looks like one in a longer text. */
export function redactUrl(text: string): string {
  return redactShapes(text);
}

/**
 * Makes a function that removes secrets from text, JSON and JSON inside JSON included: passwords in URLs, signed queries, credentials of
 * headers, API keys, string fields that are named like secrets, and the given values wherever they stand.
 */
export function createRedactor(values: readonly string[]): (text: string) => string {
  // As JSON would write them, since a log line is JSON, and as a URL would.
  const forms = [...new Set(values.flatMap((value) => [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)]))]
    .filter((form) => form !== "")
    .toSorted((a, b) => b.length - a.length);
  return (text) => {
    let clean = redactShapes(text);
    for (const form of forms) clean = clean.replaceAll(form, REDACTED);
    return clean;
  };
}

function redactShapes(text: string): string {
  const scan = new Scan(text);
  const pieces: string[] = [];
  let done = 0;
  HEAD.lastIndex = 0;
  for (let head = HEAD.exec(text); head !== null; head = HEAD.exec(text)) {
    const secret = scan.secretAt(head);
    if (secret === null || secret.to <= secret.from) continue;
    pieces.push(text.slice(done, secret.from), REDACTED);
    done = secret.to;
    HEAD.lastIndex = secret.to;
  }
  return done === 0 ? text : pieces.join("") + text.slice(done);
}

/** What is found behind the heads of one text. */
class Scan {
  readonly #text: string;
  /** The address that was read last, and its last `@`: one of many heads is read once. */
  #address = { end: -1, at: -1 };

  constructor(text: string) {
    this.#text = text;
  }

  secretAt(head: RegExpExecArray): Secret | null {
    const { index } = head;
    const from = index + head[0].length;
    const { scheme, name, key, literal } = head.groups ?? {};
    if (scheme !== undefined) return atLeast(MIN_CREDENTIALS, { from, to: this.#run(CREDENTIALS, from) });
    if (name !== undefined) return this.#ofName(head, name.toLowerCase(), from);
    if (key !== undefined) return { from, to: this.#run(KEY, from) };
    if (literal !== undefined) return /^(?:whsec_|AKIA|ASIA)$/.test(literal) ? { from: index, to: this.#run(LITERAL, from) } : null;
    return this.#ofUrl(index, from);
  }

  #ofUrl(index: number, from: number): Secret | null {
    const at = CONNECTION.test(this.#text.slice(Math.max(0, index - 16), index)) ? this.#lastAt(from) : this.#atOfAuthority(from);
    if (at < from) return null;
    const colon = this.#text.slice(from, at).indexOf(":");
    return colon === -1 ? null : { from: from + colon + 1, to: at };
  }

  #lastAt(from: number): number {
    if (from >= this.#address.end) {
      const end = this.#run(TOKEN, from);
      const last = this.#text.slice(from, end).lastIndexOf("@");
      this.#address = { end, at: last === -1 ? -1 : from + last };
    }
    return this.#address.at;
  }

  #atOfAuthority(from: number): number {
    const last = this.#text.slice(from, this.#run(AUTHORITY, from)).lastIndexOf("@");
    return last === -1 ? -1 : from + last;
  }

  #ofName(head: RegExpExecArray, name: string, from: number): Secret | null {
    const { separator, quote: nameQuote } = head.groups ?? {};
    QUOTE.lastIndex = from;
    const quote = QUOTE.exec(this.#text)?.[0];
    if (quote !== undefined) return { from: from + quote.length, to: this.#endOfQuoted(from + quote.length, quote) };
    if (separator === ":") {
      const isHeader = nameQuote === undefined && (name === "authorization" || name === "cookie" || /^api[_-]?key$/.test(name));
      return isHeader ? this.#ofHeader(from) : null;
    }
    const value = { from, to: separator === "=" ? this.#run(PLAIN_VALUE, from) : this.#endOfEncoded(from) };
    return AMBIGUOUS.has(name) && !this.#isInQuery(head.index) ? atLeast(MIN_AMBIGUOUS_VALUE, value) : value;
  }

  /** `Authorization: Bearer ...` keeps its scheme: the next head is that. */
  #ofHeader(from: number): Secret | null {
    return /^(?:bearer|basic)\s/i.test(this.#text.slice(from, from + 7)) ? null : { from, to: this.#run(HEADER_VALUE, from) };
  }

  #isInQuery(index: number): boolean {
    return /[?&;%\\][\w-]*$/.test(this.#text.slice(Math.max(0, index - MAX_NAME), index));
  }

  /** The value of a query that is itself a value of a query: `&` is `%26` there. */
  #endOfEncoded(from: number): number {
    let end = this.#run(ENCODED_PIECE, from);
    while (this.#text[end] === "%" && !this.#text.startsWith("%26", end)) end = this.#run(ENCODED_PIECE, end + 1);
    return end;
  }

  /**
   * A quoted value ends at a quote that is escaped as its first one, or less. JSON inside JSON escapes with k = 0, 1, 3, 7 ... backslashes;
   * a backslash of the value itself adds twice (k + 1) to those before the closing quote, a quote of the value k + 1.
   */
  #endOfQuoted(from: number, quote: string): number {
    const mark = quote.slice(-1);
    const escapes = quote.length - 1;
    for (let at = this.#text.indexOf(mark, from); at !== -1; at = this.#text.indexOf(mark, at + 1)) {
      let backslashes = 0;
      while (at - backslashes > from && this.#text[at - backslashes - 1] === "\\") backslashes += 1;
      if (backslashes < escapes) return at - backslashes;
      if (backslashes % (2 * (escapes + 1)) === escapes) return at - escapes;
    }
    return this.#text.length;
  }

  #run(pattern: RegExp, from: number): number {
    pattern.lastIndex = from;
    pattern.exec(this.#text);
    return Math.max(from, pattern.lastIndex);
  }
}

function atLeast(length: number, secret: Secret): Secret | null {
  return secret.to - secret.from >= length ? secret : null;
}
