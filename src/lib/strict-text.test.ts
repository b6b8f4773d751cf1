import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeForm, decodeUtf8, findJsonTextProblem, findTextProblem } from "./strict-text.ts";

test("bytes that are no UTF-8 are no text: cut, overlong, beyond Unicode, an encoded surrogate", () => {
  const hex = (text: string): string | null => decodeUtf8(Buffer.from(text, "hex"));
  assert.equal(hex("c3a9e282acf09f9880"), "é€😀");
  assert.equal(hex("efbbbf7b7d"), "{}", "a byte order mark is no part of the text");
  assert.equal(hex("efbfbd"), "\uFFFD", "the replacement character itself is one like any other");
  for (const bad of ["c3", "ff", "c0af", "e080af", "f4908080", "eda080", "80"]) assert.equal(hex(bad), null, bad);
});

test("a form is read as browsers write it, and refused where it encodes no UTF-8", () => {
  assert.deepEqual(decodeForm("a=1+2&b=%C3%A9&a=%E2%82%AC&c&=x"), [
    ["a", "1 2"],
    ["b", "é"],
    ["a", "€"],
    ["c", ""],
    ["", "x"],
  ]);
  assert.deepEqual(decodeForm("a=100%&b=%zz&c=é"), [
    ["a", "100%"],
    ["b", "%zz"],
    ["c", "é"],
  ]);
  for (const bad of ["a=%ff", "%C3=1", "a=%ED%A0%80", "a=%c3%28"]) assert.equal(decodeForm(bad), null, bad);
});

test("a text that cannot be written down, or ends before its end, is found wherever it stands", () => {
  const find = (json: string): string | null => {
    const found = findJsonTextProblem(json, JSON.parse(json));
    return found === null ? null : `${found.at}: ${found.problem}`;
  };
  assert.equal(find(String.raw`{"a":"\ud83d\ude00","b":["\u00e9",1,null,true]}`), null);
  assert.match(find(String.raw`{"a":"\ud83d"}`) ?? "", /^a: .*surrogate/);
  assert.match(find(String.raw`{"a":{"b":[{},{"c":"x\uDE00"}]}}`) ?? "", /^a\.b\[1\]\.c: .*surrogate/);
  assert.match(find(String.raw`{"a":"\u0000"}`) ?? "", /^a: .*NUL/);
  assert.match(find(String.raw`{"a":{"\u0000":1}}`) ?? "", /^a: has a name .*NUL/);
  assert.match(find(String.raw`"\ud800"`) ?? "", /^: .*surrogate/);
  assert.equal(findTextProblem({ a: "fine" }), null);
});
