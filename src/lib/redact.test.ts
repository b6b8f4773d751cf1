import assert from "node:assert/strict";
import { test } from "node:test";
import { createRedactor, redactUrl } from "./redact.ts";

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
