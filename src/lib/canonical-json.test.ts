import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalJson } from "./canonical-json.ts";

test("the order of keys makes no difference, the order of items does", () => {
  assert.equal(canonicalJson({ b: 1, a: { d: [1, 2], c: null } }), '{"a":{"c":null,"d":[1,2]},"b":1}');
  assert.equal(canonicalJson({ a: { c: null, d: [1, 2] }, b: 1 }), canonicalJson({ b: 1, a: { d: [1, 2], c: null } }));
  assert.notEqual(canonicalJson([1, 2]), canonicalJson([2, 1]));
});

test("undefined members are left out and undefined items are null, as JSON.stringify has it", () => {
  assert.equal(canonicalJson({ a: undefined, b: [undefined] }), '{"b":[null]}');
});

test("what JSON cannot hold is refused", () => {
  assert.throws(() => canonicalJson(undefined), TypeError);
  assert.throws(() => canonicalJson({ f: () => 1 }), TypeError);
});
