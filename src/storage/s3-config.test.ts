import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_PARTS, parseS3Config, planPartSize } from "./s3-config.ts";

const parse = (url: string, options = {}): ReturnType<typeof parseS3Config> => parseS3Config(new URL(url), options);

test("a bare bucket is AWS: virtual hosts, region from the chain", () => {
  const config = parse("s3://bucket");
  assert.equal(config.bucket, "bucket");
  assert.equal(config.prefix, "");
  assert.equal(config.endpoint, undefined);
  assert.equal(config.region, undefined);
  assert.equal(config.forcePathStyle, false);
});

test("an endpoint means path style and some region, unless said otherwise", () => {
  const config = parse("s3://bucket/a/b/?endpoint=http://host:9000");
  assert.equal(config.prefix, "a/b/");
  assert.equal(config.forcePathStyle, true);
  assert.equal(config.region, "us-east-1");
  const other = parse("s3://bucket?endpoint=https://host&forcePathStyle=0&region=eu-west-1");
  assert.equal(other.forcePathStyle, false);
  assert.equal(other.region, "eu-west-1");
});

test("options win over the URL", () => {
  const config = parse("s3://bucket?endpoint=http://a&region=x&forcePathStyle=1", {
    endpoint: "http://b",
    region: "y",
    forcePathStyle: false,
  });
  assert.deepEqual([config.endpoint, config.region, config.forcePathStyle], ["http://b", "y", false]);
});

test("parts below S3's least size are refused", () => {
  assert.throws(() => parse("s3://bucket", { partSizeBytes: 1_000_000 }), /1000000/);
});

test("a part size always fits the file into S3's number of parts", () => {
  const mebibyte = 1024 * 1024;
  assert.equal(planPartSize(100 * mebibyte, 5 * mebibyte), 5 * mebibyte);
  for (const gibibytes of [48, 49, 100, 5_000]) {
    const sizeBytes = gibibytes * 1024 * mebibyte;
    const part = planPartSize(sizeBytes, 5 * mebibyte);
    assert.ok(Math.ceil(sizeBytes / part) <= MAX_PARTS, `${gibibytes} GiB in parts of ${part}`);
    assert.equal(part % mebibyte, 0);
  }
});
