import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { clipText, jsonBytes } from "./clip-text.ts";

test("what is short enough stays; else the start or the end stays, measured in bytes as JSON", () => {
  assert.equal(clipText("привет", 12), "привет");
  assert.equal(clipText("привет", 11), "приве");
  assert.equal(clipText("привет", 11, "end"), "ривет");
  assert.equal(clipText('"\n"', 5), '"\n');
  assert.equal(clipText("a😀", 4), "a");
  assert.equal(clipText("😀a", 4, "end"), "a");
  assert.equal(clipText("", 0), "");
});

test("it never takes more than it may, and never less than one character below that", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 60 }), fc.nat(90), fc.constantFrom("start", "end"), (text, maxBytes, keep) => {
      const clipped = clipText(text, maxBytes, keep);
      assert.ok(jsonBytes(clipped) <= maxBytes);
      assert.ok(keep === "start" ? text.startsWith(clipped) : text.endsWith(clipped));
      assert.ok(clipped === text || jsonBytes(clipped) > maxBytes - 12);
    }),
  );
});
