import assert from "node:assert/strict";
import { test } from "node:test";
import { weightOf } from "./compress.ts";

test("gzip is sent to those who take it, and to nobody who says no", () => {
  for (const [header, expected] of [
    ["gzip", 1],
    ["gzip, deflate, br, zstd", 1],
    ["GZIP", 1],
    ["x-gzip", 1],
    ["br;q=1.0, gzip;q=0.8, *;q=0.1", 0.8],
    ["*", 1],
    ["*;q=0", 0],
    ["*;q=0.5, gzip;q=0", 0],
    ["gzip;q=0", 0],
    ["gzip; q=0.000", 0],
    ["identity", 0],
    ["", 0],
    ["deflate, br", 0],
    ["gzipped", 0],
  ] as const)
    assert.equal(weightOf(header, "gzip"), expected, header);
});
