import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { errnoOf, isMissing, isNoSpace } from "./errno.ts";
import { sha256File } from "./sha256-file.ts";
import { writeAtomic } from "./write-atomic.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-lib-"));
after(() => rm(dir, { recursive: true, force: true }));

test("a file's digest is that of its bytes, with progress up to its size", async () => {
  const path = join(dir, "digest");
  const data = Buffer.alloc(600_000, "abc");
  await writeFile(path, data);
  const seen: number[] = [];
  const digest = await sha256File(path, { onProgress: (doneBytes) => seen.push(doneBytes) });
  assert.deepEqual(digest, { sha256: createHash("sha256").update(data).digest("hex"), sizeBytes: 600_000 });
  assert.deepEqual(seen, [262_144, 524_288, 600_000]);
});

test("hashing stops when aborted", async () => {
  const path = join(dir, "long");
  await writeFile(path, Buffer.alloc(600_000));
  const controller = new AbortController();
  const reason = new Error("enough");
  await assert.rejects(sha256File(path, { signal: controller.signal, onProgress: () => controller.abort(reason) }), reason);
});

test("an atomic write replaces the content and leaves no other file", async () => {
  const path = join(dir, "atomic", "f.json");
  await assert.rejects(writeAtomic(path, "x"), isMissing);
  await mkdir(join(dir, "atomic"));
  await writeAtomic(path, "one");
  await writeAtomic(path, "two");
  assert.equal(await readFile(path, "utf8"), "two");
  assert.deepEqual(await readdir(join(dir, "atomic")), ["f.json"]);
});

test("a failed atomic write leaves no partial file", async () => {
  const path = join(dir, "taken");
  await mkdir(path);
  await assert.rejects(writeAtomic(path, "x"));
  assert.deepEqual(
    (await readdir(dir)).filter((name) => name.endsWith(".partial")),
    [],
  );
});

test("system errors are told apart by their code", () => {
  const error = (code: string): Error => Object.assign(new Error(code), { code });
  assert.equal(errnoOf(error("EIO")), "EIO");
  assert.equal(errnoOf(new Error("plain")), undefined);
  assert.equal(errnoOf("EIO"), undefined);
  assert.ok(isNoSpace(error("ENOSPC")) && isNoSpace(error("EDQUOT")) && isNoSpace(error("EFBIG")) && !isNoSpace(error("EIO")));
  assert.ok(isMissing(error("ENOENT")) && isMissing(error("ENOTDIR")) && !isMissing(error("EACCES")));
});
