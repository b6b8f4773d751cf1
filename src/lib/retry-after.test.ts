import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRetryAfter } from "./retry-after.ts";

const NOW = Date.parse("Sun, 06 Nov 1994 08:49:37 GMT");

test("seconds, or a date that counts from the answer's own", () => {
  for (const [value, date, expected] of [
    ["120", undefined, 120_000],
    [" 0 ", undefined, 0],
    ["Sun, 06 Nov 1994 08:50:37 GMT", undefined, 60_000],
    ["Sun, 06 Nov 1994 08:50:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT", 30_000],
    ["Sun, 06 Nov 1994 08:50:37 GMT", "nonsense", 60_000],
    ["Sun, 06 Nov 1994 08:00:00 GMT", undefined, 0],
    ["-5", undefined, null],
    ["1.5e9", undefined, null],
    ["99999999999999999999", undefined, null],
    ["soon", undefined, null],
    ["", undefined, null],
    [undefined, undefined, null],
  ] as const)
    assert.equal(parseRetryAfter(value, date, NOW), expected, String(value));
});
