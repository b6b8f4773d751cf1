import assert from "node:assert/strict";
import { test } from "node:test";
import { isOwn, stepsOf, undelayed } from "./delay-pattern.ts";

test("each codebook begins a step later than the one before, and has as many codes", () => {
  const pattern = { frames: 3, books: 4 };
  const rows = Array.from({ length: 4 }, (_, book) =>
    Array.from({ length: stepsOf(pattern) }, (__, step) => (isOwn(pattern, book, step) ? "x" : ".")).join(""),
  );
  assert.deepEqual(rows, ["xxx...", ".xxx..", "..xxx.", "...xxx"]);
});

test("the delays are taken out again", () => {
  const steps = [
    [1, 9, 9],
    [2, 11, 9],
    [9, 12, 21],
    [9, 9, 22],
  ];
  assert.deepEqual(undelayed({ frames: 2, books: 3 }, steps), [
    [1, 2],
    [11, 12],
    [21, 22],
  ]);
});
