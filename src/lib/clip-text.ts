/** Bytes that a text takes as JSON, without the quotes: what counts in Redis and in files, whatever the language. */
export function jsonBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text)) - 2;
}

/** The start (or the end) of a text, as much of it as takes at most `maxBytes` as JSON. No character is cut in two. */
export function clipText(text: string, maxBytes: number, keep: "start" | "end" = "start"): string {
  if (text.length * 6 <= maxBytes || jsonBytes(text) <= maxBytes) return text;
  const part = (length: number): string => (keep === "start" ? text.slice(0, length) : text.slice(text.length - length));
  let [fits, tooLong] = [0, Math.min(text.length, maxBytes + 1)];
  while (tooLong - fits > 1) {
    const middle = (fits + tooLong) >> 1;
    if (jsonBytes(part(middle)) <= maxBytes) fits = middle;
    else tooLong = middle;
  }
  const clipped = part(fits);
  return keep === "start" ? clipped.replace(/[\uD800-\uDBFF]$/, "") : clipped.replace(/^[\uDC00-\uDFFF]/, "");
}
