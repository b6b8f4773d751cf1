import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { errnoOf } from "./errno.ts";
import { makeFolders } from "./make-folders.ts";

let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "dryapi-folders-"));
});
after(() => rm(dir, { recursive: true, force: true }));

const failsWith =
  (...codes: readonly string[]) =>
  (thrown: unknown): boolean =>
    codes.includes(errnoOf(thrown) ?? "");

test("folders are made with those above them, and one that is there is no error", async () => {
  const path = join(dir, "a", "b", "c");
  await makeFolders(path, 0o700);
  await makeFolders(path);
  assert.equal((await stat(path)).mode & 0o777, 0o700);
  assert.equal((await stat(join(dir, "a"))).mode & 0o777, 0o700);
});

test("a link to a folder counts as one; a file and a link to nothing do not", async () => {
  await mkdir(join(dir, "real"));
  await symlink(join(dir, "real"), join(dir, "link"));
  await makeFolders(join(dir, "link"));
  await makeFolders(join(dir, "link", "below"));
  assert.ok((await stat(join(dir, "real", "below"))).isDirectory());
  await writeFile(join(dir, "file"), "");
  await assert.rejects(makeFolders(join(dir, "file")), failsWith("EEXIST"));
  await assert.rejects(makeFolders(join(dir, "file", "below")), failsWith("ENOTDIR"));
  await symlink(join(dir, "nothing"), join(dir, "dangling"));
  await assert.rejects(makeFolders(join(dir, "dangling")), failsWith("EEXIST"));
});

test("two that make the same folders at once both succeed", async () => {
  await Promise.all([makeFolders(join(dir, "x", "y", "z")), makeFolders(join(dir, "x", "y", "z")), makeFolders(join(dir, "x", "y"))]);
});

test("below a folder that takes none it fails, instead of going round for ever", async () => {
  await assert.rejects(makeFolders("/proc/dryapi/a/b"), failsWith("ENOENT", "EACCES"));
});
