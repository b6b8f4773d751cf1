import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { multipartFrames, parseRanges } from "./byte-ranges.ts";

/** Spans as `start-end`; of ten bytes unless a size is given. */
const ROWS: readonly (readonly [string | undefined, string | null, number?])[] = [
  [undefined, null],
  ["bytes=0-0", "0-0"],
  ["bytes=0-9", "0-9"],
  ["bytes=2-", "2-9"],
  ["bytes=-3", "7-9"],
  ["bytes=-99", "0-9"],
  ["bytes=5-99", "5-9"],
  ["bytes=99999999999999999999-", "unsatisfiable"],
  ["bytes=0-99999999999999999999", "0-9"],
  ["bytes=10-", "unsatisfiable"],
  ["bytes=10-20", "unsatisfiable"],
  ["bytes=-0", "unsatisfiable"],
  // No range by its grammar: as if the header were absent
  ["bytes=9-3", null],
  ["bytes=-", null],
  ["bytes=", null],
  ["bytes=a-b", null],
  ["bytes=1-2-3", null],
  ["bytes 0-5", null],
  ["bytes=0-1, x", null],
  ["bytes=0-1,9-3", null],
  ["items=0-5", null],
  ["BYTES=0-1", "0-1"],
  // Lists: empty elements are nothing, parts that cannot be had are left out, parts that touch are one
  ["bytes=0-1, 4-5", "0-1,4-5"],
  ["bytes= 0-1 ,, 4-5 ,", "0-1,4-5"],
  ["bytes=4-5,0-1", "4-5,0-1"],
  ["bytes=0-1,20-30", "0-1"],
  ["bytes=20-,30-", "unsatisfiable"],
  ["bytes=0-4,5-6", "0-6"],
  ["bytes=0-4,3-6,8-8", "0-6,8-8"],
  ["bytes=0-0,8-8,-9", "0-9"],
  [`bytes=${Array.from({ length: 40 }, (_, index) => `${index * 2}-${index * 2}`).join(",")}`, null, 1_000],
  // Of nothing there is no part
  ["bytes=0-", null, 0],
  ["bytes=-5", null, 0],
];

test("ranges are read as RFC 9110, 14.1.2 and 14.2, has them", () => {
  for (const [header, expected, size = 10] of ROWS) {
    const found = parseRanges(header, size);
    const text = found === null || found === "unsatisfiable" ? found : found.map(({ start, end }) => `${start}-${end}`).join(",");
    assert.equal(text, expected, header);
  }
});

test("the parts of any list are inside the file, apart from each other and hold what was asked for", () => {
  const spec = fc.oneof(
    fc.tuple(fc.nat(40), fc.nat(40)).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
    fc.nat(40).map((at) => `${at}-`),
    fc.nat(40).map((count) => `-${count}`),
  );
  fc.assert(
    fc.property(fc.array(spec, { minLength: 1, maxLength: 12 }), fc.integer({ min: 1, max: 30 }), (specs, size) => {
      const spans = parseRanges(`bytes=${specs.join(",")}`, size);
      assert.ok(spans !== null);
      const wanted = new Set<number>();
      for (const each of specs) {
        const alone = parseRanges(`bytes=${each}`, size);
        if (alone !== null && alone !== "unsatisfiable")
          for (const { start, end } of alone) for (let at = start; at <= end; at += 1) wanted.add(at);
      }
      const sent =
        spans === "unsatisfiable"
          ? []
          : spans.flatMap(({ start, end }) => Array.from({ length: end - start + 1 }, (_, index) => start + index));
      assert.deepEqual(
        sent.toSorted((a, b) => a - b),
        [...wanted].toSorted((a, b) => a - b),
      );
    }),
  );
});

test("what stands between parts is counted to the byte", () => {
  const spans = [
    { start: 0, end: 1 },
    { start: 4, end: 8 },
  ];
  const { heads, tail, bytes } = multipartFrames(spans, { size: 10, contentType: "image/png", boundary: "b" });
  assert.equal(heads[1], "\r\n--b\r\nContent-Type: image/png\r\nContent-Range: bytes 4-8/10\r\n\r\n");
  assert.equal(bytes, heads.join("").length + tail.length + 2 + 5);
});
