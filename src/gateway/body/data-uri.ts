/**
 * Decodes a data URI (RFC 2397, read as the fetch standard reads it: any case, percent-encoded or base64, padding optional) piece by
 * piece. Its media type is not looked at: files are judged by what they hold.
 */
export class DataUriDecoder {
  #head: string | null = "";
  #decode: ((text: string) => Buffer) | null = null;
  #percent = "";
  #base64 = "";
  #padding = 0;
  /** What is wrong with it, once that is known: completes "The x field ...". */
  problem: string | null = null;

  /** Bytes of what the text encodes; none once there is a problem. */
  write(text: string): Buffer {
    if (this.problem !== null) return EMPTY;
    if (this.#head === null) return this.#body(text);
    this.#head += text;
    const { problem } = headProblem(this.#head);
    if (problem !== undefined) return this.#fail(problem);
    const comma = this.#head.indexOf(",");
    if (comma > MAX_HEAD || (comma < 0 && this.#head.length > MAX_HEAD)) return this.#fail(NO_COMMA);
    if (comma < 0) return EMPTY;
    const rest = this.#head.slice(comma + 1);
    const isBase64 = /;\s*base64\s*$/i.test(this.#head.slice(0, comma));
    this.#head = null;
    this.#decode = isBase64 ? (piece) => this.#fromBase64(piece) : (piece) => Buffer.from(piece, "latin1");
    return this.#body(rest);
  }

  /** What is left. `problem` is final afterwards. */
  end(): Buffer {
    if (this.problem !== null) return EMPTY;
    if (this.#head !== null) return this.#fail(headProblem(this.#head, true).problem ?? NO_COMMA);
    // A percent sign without two digits stands for itself.
    const last = this.#decode?.(this.#percent) ?? EMPTY;
    if (this.problem !== null) return EMPTY;
    const chars = this.#base64.length;
    const isWhole = chars === 0 ? this.#padding === 0 : chars !== 1 && (this.#padding === 0 || this.#padding === 4 - chars);
    if (!isWhole) return this.#fail(BAD_BASE64);
    return Buffer.concat([last, Buffer.from(this.#base64, "base64")]);
  }

  #body(text: string): Buffer {
    if (NOT_URI.test(text)) return this.#fail("is a data URI with characters that no URI has: encode the file as base64.");
    const whole = this.#percent + text;
    const cut = /%[0-9a-f]?$/i.exec(whole)?.index ?? whole.length;
    this.#percent = whole.slice(cut);
    const ready = whole.slice(0, cut);
    const plain = ready.includes("%")
      ? ready.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
      : ready;
    return this.#decode?.(plain) ?? EMPTY;
  }

  #fromBase64(piece: string): Buffer {
    const text = /\s/.test(piece) ? piece.replaceAll(/\s/g, "") : piece;
    const end = text.indexOf("=");
    const data = end < 0 ? text : text.slice(0, end);
    const padding = end < 0 ? "" : text.slice(end);
    if (BAD_CHAR.test(data) || padding.length > 2 || /[^=]/.test(padding) || (this.#padding > 0 && data !== ""))
      return this.#fail(BAD_BASE64);
    this.#padding += padding.length;
    const all = this.#base64 + data;
    const whole = all.length - (all.length % 4);
    this.#base64 = all.slice(whole);
    return Buffer.from(all.slice(0, whole), "base64");
  }

  #fail(problem: string): Buffer {
    this.problem = problem;
    return EMPTY;
  }
}

const EMPTY = Buffer.alloc(0);
const MAX_HEAD = 1_024;
const BAD_CHAR = /[^A-Za-z0-9+/]/;
/** Spaces and line ends are let through: programs that wrap base64 write them. */
const NOT_URI = /[^\t\n\f\r -~]/;
const NO_COMMA = "is a data URI without a comma before its content.";
const BAD_BASE64 = "is a data URI whose base64 is damaged.";
const WANTED = "must be a file: send it as multipart/form-data, or in JSON as a data URI (data:<type>;base64,<content>)";

/** Undefined for what is a data URI as far as one sees. */
function headProblem(head: string, isAll = false): { readonly problem?: string } {
  if (/^data:/i.test(head) || (!isAll && head.length < 5 && "data:".startsWith(head.toLowerCase()))) return {};
  if (!isAll && head.length < 8) return {};
  return { problem: /^https?:/i.test(head) ? `${WANTED}; links are not fetched for it.` : notAFile() };
}

/** For a value that is neither a file nor a data URI. */
export function notAFile(): string {
  return `${WANTED}; bare base64 and paths are not taken.`;
}
