import assert from "node:assert/strict";
import { test } from "node:test";
import { httpDate, parseHttpDate } from "./http-date.ts";

test("a date is read in all three forms of the RFC, and in no other", () => {
  const at = Date.UTC(1994, 10, 6, 8, 49, 37);
  assert.equal(httpDate(at + 999), "Sun, 06 Nov 1994 08:49:37 GMT");
  for (const text of ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])
    assert.equal(parseHttpDate(text, Date.UTC(2026, 0)), at, text);
  assert.equal(parseHttpDate("Sunday, 06-Nov-70 08:49:37 GMT", Date.UTC(2026, 0)), Date.UTC(2070, 10, 6, 8, 49, 37));
  assert.equal(parseHttpDate("Sat, 31 Dec 2016 23:59:60 GMT"), Date.UTC(2016, 11, 31, 23, 59, 59), "a leap second");
  for (const bad of [
    "",
    "now",
    "0",
    "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 25:00:00 GMT",
  ])
    assert.equal(parseHttpDate(bad), null, bad);
});
