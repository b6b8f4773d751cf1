import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { findEspeak, phonemize } from "./espeak.ts";
import { kokoroPhonemes, splitIds } from "./kokoro-phonemes.ts";

const FIXTURES = join(import.meta.dirname, "..", "..", "..", "test", "fixtures", "kokoro");
const espeak = findEspeak();
const phonemesOf = (text: string, lang: string): Promise<string> => kokoroPhonemes(text, lang, (words) => phonemize(espeak, words, lang));

test("texts become the phonemes that the goldens were made from", async () => {
  const cases = JSON.parse(await readFile(join(FIXTURES, "cases.json"), "utf8")) as { text: string; lang: string; phonemes: string }[];
  assert.ok(cases.length >= 4);
  for (const { text, lang, phonemes } of cases) assert.equal(await phonemesOf(text, lang), phonemes);
});

test("punctuation stays, typography is plain, English sounds get Kokoro's names", async () => {
  assert.equal(
    await phonemesOf("A hundred dogs' tails; it’s Kokoro -- really?", "en-us"),
    "ɐ hˈʌndɹɪd dˈɑːɡz tˈeɪlz; ɪts kˈoʊkəɹoʊ ɹˈiəli?",
  );
  assert.equal(await phonemesOf("Wait... [what]?", "en-us"), "wˈeɪt… (wˈʌt)?");
  assert.equal(await phonemesOf("… !", "en-us"), "… !");
});

test("a text is never an option of the phonemizer", async () => {
  assert.equal(await phonemesOf("--help", "en-us"), "hˈɛlp");
  assert.equal(await phonemesOf("-f /etc/passwd", "en-us"), await phonemesOf("f /etc/passwd", "en-us"));
});

test("a language that espeak-ng does not know is told", async () => {
  await assert.rejects(phonemize(espeak, "word", "xx-nowhere"), { code: "PIPELINE_FAILED", message: /language xx-nowhere/ });
});

test("long runs are cut at a space where there is one, and nothing is lost", () => {
  assert.deepEqual(splitIds([1, 2, 9, 3, 4, 9, 5], 5, 9), [
    [1, 2, 9, 3, 4],
    [9, 5],
  ]);
  assert.deepEqual(splitIds([1, 2, 3, 4, 5], 2, 9), [[1, 2], [3, 4], [5]]);
  assert.deepEqual(splitIds([], 2, 9), []);
});
