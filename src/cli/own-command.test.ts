import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { ownCommand } from "./own-command.ts";

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-own-"));
  t.after(() => rm(dir, { recursive: true }));
  await mkdir(join(dir, "bin"));
  await mkdir(join(dir, "node_modules", ".bin"), { recursive: true });
  await writeFile(join(dir, "dryapi.mjs"), "#!/usr/bin/env node\n", { mode: 0o755 });
  return dir;
}

test("where the PATH leads to this program, its name is enough", async (t) => {
  const dir = await folder(t);
  await symlink(join(dir, "dryapi.mjs"), join(dir, "bin", "dryapi"));
  assert.equal(ownCommand({ PATH: `/nowhere:${join(dir, "bin")}` }, join(dir, "dryapi.mjs")), "dryapi");
});

test("another program of that name, or none, is not ours", async (t) => {
  const dir = await folder(t);
  await writeFile(join(dir, "bin", "dryapi"), "#!/bin/sh\n", { mode: 0o755 });
  assert.equal(ownCommand({ PATH: join(dir, "bin") }, join(dir, "dryapi.mjs")), join(dir, "dryapi.mjs"));
  assert.equal(ownCommand({ PATH: "/nowhere" }, "/srv/it's here/dryapi.mjs"), String.raw`'/srv/it'\''s here/dryapi.mjs'`);
});

test("what npx puts into the PATH is not in that of the shell", async (t) => {
  const dir = await folder(t);
  const bin = join(dir, "node_modules", ".bin");
  await symlink(join(dir, "dryapi.mjs"), join(bin, "dryapi"));
  assert.equal(ownCommand({ PATH: bin }, join(dir, "dryapi.mjs")), join(dir, "dryapi.mjs"));
});
