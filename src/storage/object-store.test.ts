import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { AppError } from "../protocol/error.ts";
import { openObjectStore } from "./object-store.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-open-"));
after(() => rm(dir, { recursive: true, force: true }));

function loadedFromAws(): number {
  return Object.keys(createRequire(import.meta.url).cache).filter((path) => path.includes("@aws-sdk")).length;
}

test("the S3 client is loaded for s3: alone", async () => {
  const store = await openObjectStore(pathToFileURL(dir).href);
  await store.check();
  assert.equal(loadedFromAws(), 0);
  const s3 = await openObjectStore("s3://bucket?endpoint=http://127.0.0.1:1");
  await s3[Symbol.asyncDispose]();
  // Proves that the count above would have seen it.
  assert.ok(loadedFromAws() > 0);
});

test("URLs of no store are refused with what was expected", async () => {
  for (const [url, word] of [
    ["/var/lib/objects", "file:///"],
    ["http://host/bucket", "http:"],
    ["file:///tmp/x?y=1", "nothing else"],
    ["file://host/tmp", "nothing else"],
    ["s3:///prefix", "no bucket"],
    ["s3://key:secret@bucket/", "keys do not belong"],
    ["s3://bucket:9000/", "port"],
    ["s3://bucket/?endpont=x", "endpont"],
    ["s3://bucket/?endpoint=localhost:9000", "endpoint"],
    ["s3://bucket/?forcePathStyle=yes", "forcePathStyle"],
    ["s3://bucket/.hidden", "prefix"],
  ] as const) {
    await assert.rejects(openObjectStore(url), (thrown) => {
      assert.ok(thrown instanceof AppError && thrown.code === "CONFIG_INVALID", `${url}: ${String(thrown)}`);
      assert.ok(thrown.message.includes(word), `${url}: ${thrown.message}`);
      assert.ok(!thrown.message.includes("secret@"), thrown.message);
      return true;
    });
  }
});
