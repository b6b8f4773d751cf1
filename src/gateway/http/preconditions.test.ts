import assert from "node:assert/strict";
import { test } from "node:test";
import { decidePreconditions, rangeApplies, type Validators } from "./preconditions.ts";

const AT = Date.UTC(2026, 0, 5, 12, 0, 0, 400);
const SAME = "Mon, 05 Jan 2026 12:00:00 GMT";
const BEFORE = "Mon, 05 Jan 2026 11:59:59 GMT";
const AFTER = "Mon, 05 Jan 2026 12:00:01 GMT";
const FILE: Validators = { etag: '"abc"', modifiedAt: AT };
const WEAK: Validators = { etag: 'W/"abc"', modifiedAt: null };

type Row = readonly [Readonly<Record<string, string>>, "serve" | "not-modified" | "failed", Validators?];

const ROWS: readonly Row[] = [
  [{}, "serve"],
  // If-None-Match: weak comparison, lists, star (13.1.2)
  [{ "if-none-match": '"abc"' }, "not-modified"],
  [{ "if-none-match": 'W/"abc"' }, "not-modified"],
  [{ "if-none-match": '"abc"' }, "not-modified", WEAK],
  [{ "if-none-match": '"x", "y,z" ,W/"abc"' }, "not-modified"],
  [{ "if-none-match": ',, "abc",' }, "not-modified"],
  [{ "if-none-match": "*" }, "not-modified"],
  [{ "if-none-match": '"x"' }, "serve"],
  [{ "if-none-match": '"ab", "c"' }, "serve"],
  [{ "if-none-match": "abc" }, "serve"],
  [{ "if-none-match": "" }, "serve"],
  // If-Match: strong comparison (13.1.1)
  [{ "if-match": '"abc"' }, "serve"],
  [{ "if-match": '"x", "abc"' }, "serve"],
  [{ "if-match": "*" }, "serve"],
  [{ "if-match": '"x"' }, "failed"],
  [{ "if-match": 'W/"abc"' }, "failed"],
  [{ "if-match": 'W/"abc"' }, "failed", WEAK],
  // Dates, by the second (13.1.3, 13.1.4)
  [{ "if-modified-since": SAME }, "not-modified"],
  [{ "if-modified-since": AFTER }, "not-modified"],
  [{ "if-modified-since": BEFORE }, "serve"],
  [{ "if-modified-since": "yesterday" }, "serve"],
  [{ "if-modified-since": SAME }, "serve", WEAK],
  [{ "if-unmodified-since": SAME }, "serve"],
  [{ "if-unmodified-since": BEFORE }, "failed"],
  [{ "if-unmodified-since": "2026-01-05" }, "serve"],
  // The order (13.2.2): a tag goes before the date beside it, If-Match before If-None-Match
  [{ "if-none-match": '"x"', "if-modified-since": AFTER }, "serve"],
  [{ "if-none-match": '"abc"', "if-modified-since": BEFORE }, "not-modified"],
  [{ "if-match": '"abc"', "if-unmodified-since": BEFORE }, "serve"],
  [{ "if-match": '"x"', "if-none-match": '"abc"' }, "failed"],
  [{ "if-match": '"abc"', "if-none-match": '"abc"' }, "not-modified"],
  [{ "if-unmodified-since": BEFORE, "if-none-match": '"abc"' }, "failed"],
];

test("conditions are judged as RFC 9110, 13, has them", () => {
  for (const [headers, expected, file = FILE] of ROWS) assert.equal(decidePreconditions(headers, file), expected, JSON.stringify(headers));
});

test("a range counts when If-Range names this very state: strong tags, or the exact date", () => {
  for (const [ifRange, expected, file] of [
    [undefined, true, FILE],
    ['"abc"', true, FILE],
    ['"x"', false, FILE],
    ['W/"abc"', false, FILE],
    ['W/"abc"', false, WEAK],
    [SAME, true, FILE],
    [BEFORE, false, FILE],
    [AFTER, false, FILE],
    [SAME, false, WEAK],
    ["nonsense", false, FILE],
  ] as const)
    assert.equal(rangeApplies({ "if-range": ifRange }, file), expected, ifRange);
});
