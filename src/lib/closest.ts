/** The one of `names` that `wanted` most likely means: the fewest letters apart, and no more than a third of them; null where none is near. */
export function closest(wanted: string, names: readonly string[]): string | null {
  const plain = lettersOf(wanted);
  let [best, least] = [null as string | null, Math.floor(plain.length / 3) + 1];
  for (const name of names) {
    const distance = editsBetween(plain, lettersOf(name), least);
    if (distance < least) [best, least] = [name, distance];
  }
  return best;
}

/** Upper case, dashes and dots are what people get wrong first: they do not count. */
function lettersOf(text: string): string {
  return text.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, "");
}

/** Letters to put in, take out or replace (Levenshtein's distance); `limit` where it is no less. */
function editsBetween(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  // For each beginning of `b` the distance to the beginning of `a` so far.
  const row = Uint32Array.from({ length: b.length + 1 }, (_, index) => index);
  const at = (index: number): number => row[index] ?? 0;
  for (let i = 0; i < a.length; i++) {
    let diagonal = at(0);
    row[0] = i + 1;
    for (let j = 0; j < b.length; j++) {
      const replaced = diagonal + (a[i] === b[j] ? 0 : 1);
      diagonal = at(j + 1);
      row[j + 1] = Math.min(replaced, diagonal + 1, at(j) + 1);
    }
  }
  return at(b.length);
}
