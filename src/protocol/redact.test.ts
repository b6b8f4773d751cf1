import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createRedactor, REDACTED, redactUrl } from "./redact.ts";

test("a URL keeps its user and loses its password", () => {
  assert.equal(redactUrl("rediss://ada:s3cret@host:6380/1"), "rediss://ada:[redacted]@host:6380/1");
  assert.equal(redactUrl("redis://:s3cret@host"), "redis://:[redacted]@host");
  assert.equal(redactUrl("redis://host:6379"), "redis://host:6379");
});

test("a signed link loses its signature and credential only", () => {
  const link = "https://b.example.org/k?X-Amz-Credential=AKIA%2Fx&X-Amz-Expires=60&X-Amz-Signature=deadbeef";
  assert.equal(redactUrl(link), "https://b.example.org/k?X-Amz-Credential=[redacted]&X-Amz-Expires=60&X-Amz-Signature=[redacted]");
});

test("JSON fields that are named like secrets are emptied, others stay", () => {
  const redact = createRedactor([]);
  const line = JSON.stringify({ token: 'a"b', sessionToken: "x", tokenizer: "t5", tokens: 77, msg: "Authorization: Bearer abcdef123" });
  const read: unknown = JSON.parse(redact(line));
  assert.deepEqual(read, {
    token: "[redacted]",
    sessionToken: "[redacted]",
    tokenizer: "t5",
    tokens: 77,
    msg: "Authorization: Bearer [redacted]",
  });
});

test("given values are replaced also where JSON had to escape them", () => {
  const redact = createRedactor(['q"uote-secret']);
  assert.equal(redact(JSON.stringify({ msg: 'has q"uote-secret inside' })), '{"msg":"has [redacted] inside"}');
});

/** Each with the marks `§` where its secret stands. */
const FORMS: readonly string[] = [
  "redis://user:§@host:6379/0",
  "rediss://:§@host",
  "redis+sentinel://user:§@a:26379,b:26379/main",
  "https://ada:§@example.org/hook",
  "Authorization: Bearer §",
  "Authorization: Bearer local|§",
  "authorization: Basic §",
  "x-api-key: §",
  "the key local|§ was given",
  "https://gateway/r/id/image.png?exp=1767225600&sig=§",
  "https://gateway/r/id/image.png?sig=§&exp=1767225600",
  "https://bucket/key?X-Amz-Security-Token=§&X-Amz-Signature=§&X-Amz-Credential=§%2F20260101%2Fauto%2Fs3%2Faws4_request",
  "https://pusher/apps/1/events?auth_key=app&auth_signature=§",
  "https://proxy/?url=https%3A%2F%2Fgateway%2Fr%2Fid%2Ff%3Fexp%3D1%26sig%3D§%26x%3D1",
  "AWS4-HMAC-SHA256 Credential=§/20260101/auto/s3/aws4_request, SignedHeaders=host, Signature=§",
  "AWS_SECRET_ACCESS_KEY=§",
  "whsec_§",
  "REDIS_PASSWORD=§",
  `{"auth":"app-key:§","channel_data":"{}"}`,
  `{"secret":"§","shared_secret" : "§"}`,
  "{ password: '§' }",
];

const SECRET = "Zk3qLw9XvB7nTy2RmC5sHd8JfGp4aQeU";

test("every format of ours loses its secret, at any depth of JSON inside JSON", () => {
  const redact = createRedactor([]);
  for (const form of FORMS) {
    const plain = form.replaceAll("§", SECRET);
    let text = `before ${plain} after`;
    for (let depth = 0; depth < 4; depth += 1) {
      const clean = redact(text);
      assert.ok(!clean.includes(SECRET), `depth ${depth}: ${clean}`);
      assert.ok(clean.includes("before ") && clean.includes(REDACTED), clean);
      text = JSON.stringify({ msg: text });
    }
  }
});

test("a secret takes nothing with it that stands behind it, and JSON stays JSON", () => {
  const redact = createRedactor([]);
  const secret = fc.string({ unit: fc.constantFrom("a", "Z", "7", '"', "\\", "\n", "'", "=", "&", " ", "é"), minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(secret, fc.integer({ min: 0, max: 3 }), (value, depth) => {
      const wrap = (token: string): string => {
        let text = JSON.stringify({ token, kept: "yes" });
        for (let level = 0; level < depth; level += 1) text = JSON.stringify({ msg: text, level });
        return text;
      };
      assert.equal(redact(wrap(value)), wrap(REDACTED));
    }),
  );
});

test("words that only look like the beginning of a secret stay", () => {
  const redact = createRedactor([]);
  for (const text of [
    "basic setup, bearer of news",
    "eos_token=50257 pad_token=0 tokens: 77",
    `{"tokenizer":"t5","max_tokens":128}`,
    "redis://user@host, https://example.org/a@b:c",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "a|b || c | d",
  ])
    assert.equal(redact(text), text);
});

/** What heads, values and their ends are made of: repeated, each would find the end of everything anew if the work were not bounded. */
const HOSTILE: readonly string[] = [
  "a",
  "://",
  "redis://",
  "redis://a:b",
  "://a:",
  '"token":"',
  '\\"token\\":\\"',
  '"token":"\\',
  "\\",
  "Bearer ",
  "Bearer a ",
  "sig=",
  "?token=",
  "sig%3D%26",
  "sig%3D%2F",
  "password ",
  "a|",
  "whsec_",
  "AKIA",
  "auth:'\\'",
  "authorization:",
  "cookie: \n",
  "?aaaaaaaaaaaaaaaaaaaa_token=",
];

test("the work grows with the text alone: 16 MB of hostile text are read to their end", () => {
  const redact = createRedactor([]);
  const each = 16_000_000 / HOSTILE.length;
  const blocks = HOSTILE.map((piece) => piece.repeat(Math.ceil(each / piece.length)));
  // Were one of them read again from each of its heads, this would take hours.
  assert.notEqual(redact(blocks.join(" ")), "");
  for (const block of blocks) assert.notEqual(redact(block), "");
});
