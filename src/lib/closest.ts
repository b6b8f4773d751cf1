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
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
