import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBytes, formatMs, formatTable, wrap } from "./terminal.ts";

test("sizes and durations are short", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 150 * 1024, 3 * 1024 ** 3].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "150 KiB",
    "3.0 GiB",
  ]);
  assert.deepEqual([0.4, 999, 1_000, 59_940, 61_000].map(formatMs), ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 1 s"]);
});

test("columns are aligned and lines have no blank at their end", () => {
  assert.equal(
    formatTable([
      ["A", "B"],
      ["long", ""],
      ["x", "y"],
    ]),
    "A     B\nlong\nx     y",
  );
});

test("text wraps at blanks, and a word that is too long keeps its line", () => {
  assert.equal(wrap("aa bb cc", 5, "> "), "aa bb\n> cc");
  assert.equal(wrap("aaaaaaaa b", 5, ""), "aaaaaaaa\nb");
});
