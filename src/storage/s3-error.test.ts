import assert from "node:assert/strict";
import { test } from "node:test";
import { asStorageError, isNoSuchKey } from "./s3-error.ts";

const action = { verb: "put", bucket: "b", key: "k/1", endpoint: "http://host:9000" };
const answer = (name: string, status: number, message = "text"): Error =>
  Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status } });
const codeOf = (thrown: unknown): string => asStorageError(thrown, action).code;

test("what passes by itself is STORAGE_UNAVAILABLE", () => {
  for (const error of [
    answer("InternalError", 500),
    answer("ServiceUnavailable", 503),
    answer("SlowDown", 503),
    answer("TooManyRequests", 429),
    answer("RequestTimeout", 400),
    answer("BadDigest", 400),
    answer("XAmzContentSHA256Mismatch", 400),
    Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }),
    Object.assign(new Error("too slow"), { name: "TimeoutError" }),
    Object.assign(new Error("getaddrinfo"), { code: "EAI_AGAIN" }),
  ]) {
    assert.equal(codeOf(error), "STORAGE_UNAVAILABLE", error.name);
  }
});

test("what needs a person is STORAGE_REJECTED with a hint", () => {
  for (const [error, hint] of [
    [answer("AccessDenied", 403), "permission"],
    [answer("NoSuchBucket", 404), "create the bucket"],
    [answer("InvalidAccessKeyId", 403), "unknown"],
    [answer("SignatureDoesNotMatch", 403), "secret key"],
    [answer("RequestTimeTooSkewed", 403), "clock"],
    [answer("PermanentRedirect", 301), "region"],
    [answer("NotImplemented", 501), "NotImplemented"],
    [Object.assign(new Error("Could not load credentials"), { name: "CredentialsProviderError" }), "AWS_ACCESS_KEY_ID"],
    [new Error("Region is missing"), "Region is missing"],
  ] as const) {
    const mapped = asStorageError(error, action);
    assert.equal(mapped.code, "STORAGE_REJECTED", mapped.message);
    assert.ok(mapped.message.includes(hint), mapped.message);
  }
});

test("the message names the action, the object, the server, the S3 code and the status", () => {
  const mapped = asStorageError(answer("AccessDenied", 403, "no"), action);
  assert.match(mapped.message, /^put s3:\/\/b\/k\/1 at http:\/\/host:9000: AccessDenied, HTTP 403, no; /);
});

test("a refused connection with several addresses names them", () => {
  const refused = new AggregateError([new Error("connect ECONNREFUSED ::1:9"), new Error("connect ECONNREFUSED 127.0.0.1:9")]);
  const mapped = asStorageError(Object.assign(refused, { code: "ECONNREFUSED" }), action);
  assert.equal(mapped.code, "STORAGE_UNAVAILABLE");
  assert.ok(mapped.message.includes("127.0.0.1:9"), mapped.message);
});

test("only a missing object is a missing object", () => {
  assert.ok(isNoSuchKey(answer("NoSuchKey", 404)));
  assert.ok(isNoSuchKey(answer("NotFound", 404)));
  assert.ok(!isNoSuchKey(answer("NoSuchBucket", 404)));
  assert.ok(!isNoSuchKey(answer("AccessDenied", 403)));
});
