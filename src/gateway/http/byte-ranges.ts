/** Byte positions, both inclusive. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** More than so many parts are no reader's wish: the whole is the answer (RFC 9110, 14.2, allows it). */
const MOST_SPANS = 16;

/**
 * The `Range` of a GET for a representation of `size` bytes (RFC 9110, 14.2): the parts to send, in the order asked for, those that overlap or
 * touch as one; null when the whole is the answer (no range, another unit, no range at all by its grammar, nothing to take a part of).
 */
export function parseRanges(header: string | undefined, size: number): readonly Span[] | "unsatisfiable" | null {
  const [, set] = /^bytes=(.*)$/i.exec(header?.trim() ?? "") ?? [];
  if (set === undefined || size === 0) return null;
  const specs = set
    .split(",")
    .map((spec) => spec.trim())
    .filter((spec) => spec !== "");
  const spans: Span[] = [];
  for (const spec of specs) {
    const span = parseSpec(spec, size);
    if (span === null) return null;
    if (span !== "unsatisfiable") spans.push(span);
  }
  if (specs.length === 0) return null;
  if (spans.length === 0) return "unsatisfiable";
  const merged = merge(spans);
  return merged.length > MOST_SPANS || specs.length > 8 * MOST_SPANS ? null : merged;
}

/** Null: by its grammar it is none, and so the header counts for nothing. */
function parseSpec(spec: string, size: number): Span | "unsatisfiable" | null {
  const [, first, last] = /^(\d*)-(\d*)$/.exec(spec) ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return null;
  if (first === "") return Number(last) === 0 ? "unsatisfiable" : { start: Math.max(0, size - Number(last)), end: size - 1 };
  const start = Number(first);
  const end = last === "" ? size - 1 : Math.min(size - 1, Number(last));
  if (last !== "" && Number(last) < start) return null;
  return start >= size ? "unsatisfiable" : { start, end };
}

function merge(spans: readonly Span[]): readonly Span[] {
  const merged: Span[] = [];
  for (const span of spans) {
    let joined = span;
    for (let index = merged.length - 1; index >= 0; index -= 1) {
      const other = merged[index];
      if (other === undefined || other.start > joined.end + 1 || joined.start > other.end + 1) continue;
      joined = { start: Math.min(other.start, joined.start), end: Math.max(other.end, joined.end) };
      merged.splice(index, 1);
    }
    merged.push(joined);
  }
  return merged;
}

export function contentRange({ start, end }: Span, size: number): string {
  return `bytes ${start}-${end}/${size}`;
}

/** Parts of one `multipart/byteranges` body (RFC 9110, 14.6): what stands before each, and at the end. */
export function multipartFrames(
  spans: readonly Span[],
  { size, contentType, boundary }: { readonly size: number; readonly contentType: string; readonly boundary: string },
): { readonly heads: readonly string[]; readonly tail: string; readonly bytes: number } {
  const heads = spans.map(
    (span) => `\r\n--${boundary}\r\nContent-Type: ${contentType}\r\nContent-Range: ${contentRange(span, size)}\r\n\r\n`,
  );
  const tail = `\r\n--${boundary}--\r\n`;
  const framing = [...heads, tail].reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  return { heads, tail, bytes: framing + spans.reduce((sum, { start, end }) => sum + end - start + 1, 0) };
}
