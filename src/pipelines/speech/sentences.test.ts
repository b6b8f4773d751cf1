import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { splitSentences } from "./sentences.ts";

test("sentences end where people end them, white space is one space", () => {
  assert.deepEqual(splitSentences("A red fox.  It ran!\nWhere to? 3.5 miles away.", { maxChars: 100 }), [
    "A red fox.",
    "It ran!",
    "Where to?",
    "3.5 miles away.",
  ]);
  assert.deepEqual(splitSentences(" \n ", { maxChars: 10 }), []);
});

test("a long sentence is split at a pause, else at a space, else anywhere", () => {
  assert.deepEqual(splitSentences("one two, three four five", { maxChars: 12 }), ["one two,", "three four", "five"]);
  assert.deepEqual(splitSentences("abcdefghij", { maxChars: 4 }), ["abcd", "efgh", "ij"]);
  assert.deepEqual(splitSentences("😀😀😀", { maxChars: 3 }), ["😀", "😀", "😀"]);
});

test("nothing but white space is lost, no part is too long", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 80 }), fc.integer({ min: 2, max: 20 }), (text, maxChars) => {
      const parts = splitSentences(text, { maxChars });
      assert.ok(parts.every((part) => part !== "" && part.length <= maxChars));
      assert.equal(parts.join("").replaceAll(/\s/gu, ""), text.replaceAll(/\s/gu, ""));
    }),
  );
});
