import assert from "node:assert/strict";
import { test } from "node:test";
import { isAbsent, readBoolean, readJson, readNumber, readSeed, readText, readChoice, readTexts, readUrl } from "./field-value.ts";

const value = (read: { ok: boolean }): unknown =>
  "value" in read ? read.value : "problem" in read ? `! ${String(read.problem)}` : undefined;

test("missing, null, blank texts and empty lists are absent; zero and false are not", () => {
  for (const absent of [undefined, null, "", "  \n", []]) assert.equal(isAbsent(absent), true);
  for (const present of [0, false, "0", [""], {}]) assert.equal(isAbsent(present), false);
});

test("numbers come as numbers or decimal text within their bounds", () => {
  const read = (given: unknown, bounds = {}): unknown => value(readNumber(given, bounds));
  assert.deepEqual(
    [read(4), read("4"), read(" 3.5 "), read("-1e2"), read(".5"), read("4.0", { integer: true })],
    [4, 4, 3.5, -100, 0.5, 4],
  );
  for (const wrong of ["", "4px", "0x10", "Infinity", "NaN", Number.NaN, true, [4], {}, "1,5"])
    assert.equal(read(wrong), "! must be a number.");
  assert.equal(read(1.5, { integer: true }), "! must be an integer.");
  assert.equal(read("x", { integer: true }), "! must be an integer.");
  assert.equal(read(1, { min: 2 }), "! must be at least 2.");
  assert.equal(read("11", { max: 10 }), "! must not be greater than 10.");
});

test("booleans are 1, 0, true and false in each notation", () => {
  assert.deepEqual(
    [true, 1, "1", "true", "TRUE"].map((given) => value(readBoolean(given))),
    [true, true, true, true, true],
  );
  assert.deepEqual(
    [false, 0, "0", "false"].map((given) => value(readBoolean(given))),
    [false, false, false, false],
  );
  for (const wrong of ["yes", 2, "on", {}]) assert.equal(value(readBoolean(wrong)), "! must be true or false.");
});

test("a seed is -1 or counts modulo 2^32 up to 2^53-1", () => {
  const read = (given: unknown): unknown => value(readSeed(given));
  assert.deepEqual(
    [read(-1), read("-1"), read(0), read("42"), read(2 ** 32 - 1), read(2 ** 32), read(2 ** 32 + 7)],
    [null, null, 0, 42, 2 ** 32 - 1, 0, 7],
  );
  assert.equal(read(2 ** 53 - 1), 2 ** 32 - 1);
  for (const wrong of [-2, 1.5, 2 ** 53, "9007199254740993", "abc", true]) {
    assert.equal(read(wrong), "! must be -1 or an integer from 0 to 9007199254740991.");
  }
});

test("texts have a length, JSON values a depth and no holes", () => {
  assert.equal(value(readText("abc", { min: 3, max: 3 })), "abc");
  assert.equal(value(readText("ab", { min: 3 })), "! must be at least 3 characters.");
  assert.equal(value(readText("abcd", { max: 3 })), "! must not be greater than 3 characters.");
  assert.equal(value(readText(5, {})), "! must be a string.");
  assert.deepEqual(value(readJson({ a: [1, "x", null, { b: true }] })), { a: [1, "x", null, { b: true }] });
  let deep: unknown = 1;
  for (let i = 0; i < 9; i++) deep = [deep];
  for (const wrong of [deep, { f: () => 1 }, Number.NaN, [undefined], 1n]) assert.equal(value(readJson(wrong)), "! must be a JSON value.");
});

test("a list of texts is one text, a list, or a list as a form has it", () => {
  const read = (given: unknown): unknown => value(readTexts(given, { min: 1, maxItems: 2 }));
  assert.deepEqual([read("a"), read(["a", "b"]), read('["a","b"]')], ["a", ["a", "b"], ["a", "b"]]);
  assert.deepEqual([read("[1] is a footnote"), read("[1]")], ["[1] is a footnote", "[1]"], "what only looks like a list is a text");
  assert.equal(read(["a", "b", "c"]), "! must not have more than 2 items.");
  assert.equal(read(["a", ""]), "! must hold strings only, and each must be at least 1 characters.");
  assert.equal(read({}), "! must be a string or a list of strings.");
});

test("a choice may come as a number, an address must be one of the web", () => {
  assert.equal(value(readChoice(4, ["3", "4"])), "4");
  for (const wrong of ["5", "", null, ["4"]]) assert.equal(value(readChoice(wrong, ["3", "4"])), "! must be one of 3, 4.");
  assert.equal(value(readUrl("https://x.example/a", {})), "https://x.example/a");
  for (const wrong of ["javascript:1", "//x.example", "https://"])
    assert.match(String(value(readUrl(wrong, {}))), /^! must be(gin with https| a valid URL)/);
  assert.equal(value(readUrl(`https://x.example/${"a".repeat(20)}`, { max: 20 })), "! must not be greater than 20 characters.");
});
