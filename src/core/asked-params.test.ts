import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { askedParams } from "./asked-params.ts";

const ROOM = { text: 10, whole: 100 };

test("what has room is given as it is", () => {
  const params = { prompt: "a fox", width: 64, seed: 7, include_ts: true, extra: { list: [1, "two", null] } };
  assert.deepEqual(askedParams(params, { text: 300, whole: 1_500 }), { params, isCut: false });
});

test("a long text is cut, never within a character, and that is said", () => {
  assert.deepEqual(askedParams({ prompt: "123456789🦊" }, ROOM), { params: { prompt: "123456789" }, isCut: true });
});

test("of many texts those that there is room for are kept", () => {
  const { params, isCut } = askedParams({ input: Array.from({ length: 2_000 }, () => "0123456789") }, ROOM);
  assert.equal((params["input"] as readonly string[]).length, 9);
  assert.equal(isCut, true);
});

test("no secret is among them", () => {
  const params = {
    audio_url: "https://a.example/b.mp3?X-Amz-Signature=0123456789abcdef0123&x=1",
    api_key: "0123456789abcdef",
    nested: { password: "hunter2" },
    max_tokens: 7,
    prompt: "a poster that says password=swordfish",
  };
  assert.deepEqual(askedParams(params, { text: 300, whole: 1_500 }).params, {
    ...params,
    audio_url: "https://a.example/b.mp3?X-Amz-Signature=[redacted]&x=1",
    api_key: "[redacted]",
    nested: { password: "[redacted]" },
  });
});

test("however much is stored, little is given", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ maxLength: 8 }), fc.jsonValue({ maxDepth: 3 })), (params) => {
      const texts: string[] = [];
      JSON.stringify(askedParams(params as Parameters<typeof askedParams>[0], ROOM).params, (_key, value: unknown) => {
        if (typeof value === "string") texts.push(value);
        return value;
      });
      assert.ok(texts.every((text) => text.length <= ROOM.text || text === "[redacted]".slice(0, text.length)));
      assert.ok(texts.reduce((sum, text) => sum + text.length, 0) <= ROOM.whole);
    }),
  );
});
