/** Punctuation that Kokoro's vocabulary has: kept as it stands, never sent to the phonemizer. */
const PUNCTUATION = /(\s*[;:,.!?¡¿—…"“”()]+\s*)/u;
const TYPOGRAPHY: readonly (readonly [RegExp, string])[] = [
  [/[‘’]/gu, "'"],
  [/[«»„]/gu, '"'],
  [/\[/gu, "("],
  [/\]/gu, ")"],
  [/\.\.\./gu, "…"],
  [/\s+/gu, " "],
];
/** What English sounds of espeak-ng are called in Kokoro. Source: kokoro.js phonemize.js. */
const ENGLISH: readonly (readonly [RegExp, string])[] = [
  [/kəkˈoːɹoʊ/gu, "kˈoʊkəɹoʊ"],
  [/kəkˈɔːɹəʊ/gu, "kˈəʊkəɹəʊ"],
  [/ʲ/gu, "j"],
  [/r/gu, "ɹ"],
  [/x/gu, "k"],
  [/ɬ/gu, "l"],
  [/(?<=[a-zɹː])(?=hˈʌndɹɪd)/gu, " "],
  [/ z(?=[;:,.!?¡¿—…"«»“” ]|$)/gu, "z"],
];
const AMERICAN: readonly (readonly [RegExp, string])[] = [[/(?<=nˈaɪn)ti(?!ː)/gu, "di"]];

/** Phonemes of a sentence with its punctuation; `say` gives those of words alone. */
export async function kokoroPhonemes(sentence: string, lang: string, say: (words: string) => Promise<string>): Promise<string> {
  const parts: string[] = [];
  // Matches of the group are the odd members.
  for (const [index, part] of replaced(sentence, TYPOGRAPHY).split(PUNCTUATION).entries())
    parts.push(index % 2 === 1 || part.trim() === "" ? part : await say(part.trim()));
  const rules = lang.startsWith("en") ? [...ENGLISH, ...(lang === "en-us" ? AMERICAN : [])] : [];
  return replaced(parts.join(""), rules).trim();
}

function replaced(text: string, rules: readonly (readonly [RegExp, string])[]): string {
  return rules.reduce((made, [from, to]) => made.replaceAll(from, to), text);
}

/** Ids of at most `max` each, cut at a space where there is one. */
export function splitIds(ids: readonly number[], max: number, spaceId: number): readonly (readonly number[])[] {
  if (ids.length <= max) return ids.length === 0 ? [] : [ids];
  const space = ids.lastIndexOf(spaceId, max);
  const cut = space > 0 ? space : max;
  return [ids.slice(0, cut), ...splitIds(ids.slice(cut), max, spaceId)];
}
