/**
 * Splits a text into sentences of at most `maxChars` characters (UTF-16 units), trimmed, none of them empty. A sentence that is longer is
 * split at its last comma, semicolon or colon that fits, else at its last space, else anywhere.
 */
export function splitSentences(text: string, options: { readonly maxChars: number; readonly lang?: string }): readonly string[] {
  const segmenter = new Intl.Segmenter(options.lang, { granularity: "sentence" });
  return [...segmenter.segment(text.replaceAll(/\s+/gu, " "))].flatMap(({ segment }) => wrapped(segment.trim(), options.maxChars));
}

function wrapped(sentence: string, maxChars: number): readonly string[] {
  if (sentence === "") return [];
  if (sentence.length <= maxChars) return [sentence];
  const head = sentence.slice(0, maxChars);
  const pause = Math.max(head.lastIndexOf(", "), head.lastIndexOf("; "), head.lastIndexOf(": "));
  const space = head.lastIndexOf(" ");
  const cut = pause > 0 ? pause + 1 : space > 0 ? space : wholeCharacters(sentence, maxChars);
  return [sentence.slice(0, cut).trim(), ...wrapped(sentence.slice(cut).trim(), maxChars)].filter((part) => part !== "");
}

/** No cut through a surrogate pair. */
function wholeCharacters(text: string, length: number): number {
  const code = text.charCodeAt(length - 1);
  return code >= 0xd800 && code <= 0xdbff && length > 1 ? length - 1 : length;
}
