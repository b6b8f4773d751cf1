/** Takes the text of one file's string as it comes. */
export interface TextSink {
  /** ASCII, as the string has it once its escapes are resolved. */
  write(text: string): Promise<void>;
  end(): Promise<void>;
}

export interface ScanOptions {
  /** Null where the value of this field is no file. */
  readonly open: (field: string) => TextSink | null;
  /** Most bytes of all but the files' strings. */
  readonly maxPlainBytes: number;
  readonly tooLarge: () => Error;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** A field's name that could be a file's is shorter. */
const MAX_NAME = 64;
const ESCAPES: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/**
 * Takes the strings of files out of a JSON object while it comes in, so that a large one is never in memory: what stays is the same
 * JSON with `null` in their place. A file's string is the value of a field, or a member of its list. Nothing else is looked at, and
 * whether it is JSON at all is left to the parser that reads what stays.
 *
 *   plain --quote at the place of a file's value--> file --quote--> plain
 *     |  `--any other quote--> string --quote--> plain
 */
export class JsonFileScanner {
  readonly #options: ScanOptions;
  readonly #plain: Buffer[] = [];
  #plainBytes = 0;
  #state: "plain" | "string" | "file" = "plain";
  /** `{` and `[` that are open. */
  #depth = 0;
  #isList = false;
  /** Of the last string at depth 1, still escaped; whether a colon followed it. */
  #name = "";
  #isValue = false;
  #isEscaped = false;
  #sink: TextSink | null = null;
  /** Of an escape in a file's string that the last chunk cut through. */
  #escape = "";

  constructor(options: ScanOptions) {
    this.#options = options;
  }

  async write(chunk: Buffer): Promise<void> {
    let at = 0;
    while (at < chunk.length) at = this.#state === "file" ? await this.#file(chunk, at) : this.#scan(chunk, at);
  }

  /** What stays. */
  end(): Buffer {
    return Buffer.concat(this.#plain);
  }

  /** Up to where a file's string begins, or to the chunk's end. */
  #scan(chunk: Buffer, from: number): number {
    for (let at = from; at < chunk.length; at += 1) {
      const byte = chunk[at] as number;
      if (this.#state === "string") this.#inString(byte);
      else if (byte !== QUOTE) this.#structure(byte);
      else {
        this.#sink = this.#isFilePlace() ? this.#options.open(nameOf(this.#name)) : null;
        if (this.#sink !== null) {
          this.#state = "file";
          this.#keep(chunk.subarray(from, at));
          this.#keep(NULL);
          return at + 1;
        }
        this.#state = "string";
        if (this.#depth === 1 && !this.#isValue) this.#name = "";
      }
    }
    this.#keep(chunk.subarray(from));
    return chunk.length;
  }

  #inString(byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) {
      this.#state = "plain";
      return;
    }
    if (this.#depth === 1 && !this.#isValue && this.#name.length <= MAX_NAME) this.#name += String.fromCharCode(byte);
  }

  #structure(byte: number): void {
    const char = String.fromCharCode(byte);
    if (char === "{" || char === "[") {
      this.#depth += 1;
      if (this.#depth === 2) this.#isList = char === "[";
    } else if (char === "}" || char === "]") this.#depth -= 1;
    else if (this.#depth === 1 && char === ":") this.#isValue = true;
    else if (this.#depth === 1 && char === ",") this.#isValue = false;
  }

  #isFilePlace(): boolean {
    return this.#isValue && (this.#depth === 1 || (this.#depth === 2 && this.#isList));
  }

  /** Up to behind the string's end, or to the chunk's. */
  async #file(chunk: Buffer, from: number): Promise<number> {
    const texts: string[] = [];
    let at = from;
    let quote = -1;
    let backslash = -1;
    while (at < chunk.length) {
      if (this.#escape !== "") {
        this.#escape += String.fromCharCode(chunk[at] as number);
        at += 1;
        if (isWhole(this.#escape)) {
          texts.push(resolved(this.#escape));
          this.#escape = "";
        }
        continue;
      }
      if (quote < at) quote = indexOrEnd(chunk, QUOTE, at);
      if (backslash < at) backslash = indexOrEnd(chunk, BACKSLASH, at);
      const stop = Math.min(quote, backslash);
      if (stop > at) texts.push(chunk.toString("latin1", at, stop));
      at = stop + 1;
      if (stop === chunk.length) break;
      if (stop === backslash) {
        this.#escape = "\\";
        continue;
      }
      await this.#sink?.write(texts.join(""));
      await this.#sink?.end();
      this.#sink = null;
      this.#state = "plain";
      return at;
    }
    if (texts.length > 0) await this.#sink?.write(texts.join(""));
    return chunk.length;
  }

  #keep(bytes: Buffer): void {
    this.#plainBytes += bytes.length;
    if (this.#plainBytes > this.#options.maxPlainBytes) throw this.#options.tooLarge();
    // A copy: the chunk is large and would be held for a few bytes of it.
    this.#plain.push(Buffer.from(bytes));
  }
}

const NULL = Buffer.from("null");

function indexOrEnd(chunk: Buffer, byte: number, from: number): number {
  const at = chunk.indexOf(byte, from);
  return at < 0 ? chunk.length : at;
}

function isWhole(escape: string): boolean {
  return escape.length === (escape[1] === "u" ? 6 : 2);
}

/** An escape that is none becomes a character that no data URI has. */
function resolved(escape: string): string {
  const [, char = ""] = escape;
  if (char === "u") return /^\\u[0-9a-f]{4}$/i.test(escape) ? String.fromCharCode(Number.parseInt(escape.slice(2), 16)) : "\0";
  return '"\\/'.includes(char) ? char : (ESCAPES[char] ?? "\0");
}

function nameOf(escaped: string): string {
  try {
    return JSON.parse(`"${escaped}"`) as string;
  } catch {
    return "";
  }
}
