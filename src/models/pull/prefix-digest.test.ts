import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { PrefixDigest } from "./prefix-digest.ts";

const MIB = 2 ** 20;
const dir = await mkdtemp(join(tmpdir(), "prefix-digest-"));
after(() => rm(dir, { recursive: true, force: true }));

test("the digest of a file that grows is that of the whole", async () => {
  const bytes = randomBytes(5 * MIB + 7);
  const path = join(dir, "grows");
  await writeFile(path, bytes.subarray(0, 3 * MIB));
  await using digest = new PrefixDigest(path);
  digest.grown(2 * MIB);
  digest.grown(3 * MIB);
  await writeFile(path, bytes);
  assert.equal(await digest.finish(bytes.length), createHash("sha256").update(bytes).digest("hex"));
});

test("a file that ends before it should is told at the end, also when that shows in the middle", async () => {
  const path = join(dir, "short");
  await writeFile(path, "abc");
  await using digest = new PrefixDigest(path);
  digest.grown(2 * MIB);
  await assert.rejects(digest.finish(2 * MIB), /short ends at 3, expected 2097152 bytes/);
});
