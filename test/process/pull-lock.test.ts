import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

const CONTENDER = join(import.meta.dirname, "..", "fixtures", "pull-contender.ts");
const TIMES = 5;
const ROUNDS = 6;
/** At which time each of the processes dies with the lock; 0: never. */
const DEATHS = [1, 2, 3, 4, 0, 0];

test("one process at a time has the lock of pulls, whatever dies with it", async () => {
  const root = await mkdtemp(join(tmpdir(), "pull-lock-"));
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      const said = DEATHS.map((dies) => {
        const child = spawn(process.execPath, [CONTENDER, root, String(TIMES), String(dies)], { stdio: ["ignore", "pipe", "inherit"] });
        return text(child.stdout);
      });
      assert.deepEqual(
        await Promise.all(said),
        DEATHS.map((dies) => (dies === 0 ? "whole\n" : "")),
      );
      await rm(join(root, "held"), { force: true });
    }
    // What the last one gave back, or the last one to die left.
    assert.deepEqual(
      (await readdir(root)).filter((name) => name !== ".pull.lock"),
      [],
    );
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
