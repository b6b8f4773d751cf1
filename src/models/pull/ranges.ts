/** Bytes from `start` up to, not including, `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Sorted, without overlaps or neighbours. */
export function joinRanges(ranges: readonly Range[]): readonly Range[] {
  const joined: Range[] = [];
  for (const range of ranges.filter(({ start, end }) => end > start).toSorted((a, b) => a.start - b.start)) {
    const last = joined.at(-1);
    if (last === undefined || range.start > last.end) joined.push(range);
    else joined[joined.length - 1] = { start: last.start, end: Math.max(last.end, range.end) };
  }
  return joined;
}

/** What is missing of a file of `size` bytes, in pieces of at most `piece`. */
export function missingRanges(done: readonly Range[], size: number, piece: number): readonly Range[] {
  const missing: Range[] = [];
  let at = 0;
  for (const { start, end } of [...joinRanges(done), { start: size, end: size }]) {
    for (; at < Math.min(start, size); at = Math.min(at + piece, start, size))
      missing.push({ start: at, end: Math.min(at + piece, start, size) });
    at = Math.max(at, end);
  }
  return missing;
}

export function bytesOf(ranges: readonly Range[]): number {
  return joinRanges(ranges).reduce((sum, { start, end }) => sum + end - start, 0);
}

/** `bytes 0-99/1000`; null for another form, or a size that is not said. */
export function parseContentRange(text: string | undefined): (Range & { readonly size: number }) | null {
  const found = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(text ?? "");
  if (found === null) return null;
  return { start: Number(found[1]), end: Number(found[2]) + 1, size: Number(found[3]) };
}
