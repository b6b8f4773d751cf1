import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { readLocalSystem, removeLocalSystem, writeLocalSystem } from "./local-system.ts";

async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-local-"));
  t.after(() => rm(dir, { recursive: true }));
  return dir;
}

test("a running system is found, a removed one is not", async (t) => {
  const dir = await tempDir(t);
  assert.equal(await readLocalSystem(dir), null);
  await writeLocalSystem(dir, { pid: process.pid, redisUrl: "unix:///run/x.sock" });
  assert.deepEqual(await readLocalSystem(dir), { pid: process.pid, redisUrl: "unix:///run/x.sock" });
  await removeLocalSystem(dir);
  await removeLocalSystem(dir);
  assert.equal(await readLocalSystem(dir), null);
});

test("what a killed system or a broken file left behind does not count", async (t) => {
  const dir = await tempDir(t);
  const { pid } = spawnSync(process.execPath, ["--version"]);
  await writeLocalSystem(dir, { pid, redisUrl: "unix:///run/x.sock" });
  assert.equal(await readLocalSystem(dir), null);
  await writeFile(join(dir, "up.json"), "{");
  assert.equal(await readLocalSystem(dir), null);
});
