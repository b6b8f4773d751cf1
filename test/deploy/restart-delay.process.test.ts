import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import { UNITS_DIR } from "../support/unit-file.ts";

const exec = promisify(execFile);

interface Unit {
  /** A start; resolves to the seconds that it paused before. */
  start(): Promise<number>;
  /** An end, as systemd calls it. */
  end(result: string): Promise<void>;
  /** Lets the start have been so long ago. */
  ranFor(seconds: number): Promise<void>;
}

/** The two commands as a unit runs them, with a `sleep` that only says how long. */
async function unit(t: TestContext): Promise<Unit> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-delay-"));
  t.after(() => rm(dir, { recursive: true }));
  await mkdir(join(dir, "bin"));
  await mkdir(join(dir, "run"));
  await writeFile(join(dir, "bin/sleep"), '#!/bin/sh\necho "$1"\n');
  await chmod(join(dir, "bin/sleep"), 0o755);
  const script = async (verb: string, env: Record<string, string> = {}): Promise<string> => {
    const options = { env: { PATH: join(dir, "bin"), RUNTIME_DIRECTORY: join(dir, "run"), ...env } };
    return (await exec("/bin/sh", [join(UNITS_DIR, "restart-delay.sh"), verb], options)).stdout.trim();
  };
  const started = join(dir, "run/started");
  return {
    start: async () => Number(await script("wait")),
    end: async (result) => void (await script("note", { SERVICE_RESULT: result })),
    ranFor: async (seconds) => writeFile(started, `${Number(await readFile(started, "utf8")) - seconds}\n`),
  };
}

test("the pause doubles with each quick failure, up to a minute, and never ends in giving up", async (t) => {
  const { start, end } = await unit(t);
  const pauses: number[] = [];
  for (let failures = 0; failures < 10; failures += 1) {
    pauses.push(await start());
    await end("exit-code");
  }
  assert.deepEqual(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
});

test("an end without fault, or a failure after five good minutes, begins anew", async (t) => {
  const { start, end, ranFor } = await unit(t);
  for (const result of ["exit-code", "watchdog", "signal"]) {
    await start();
    await end(result);
  }
  assert.equal(await start(), 4);
  await ranFor(299);
  await end("signal");
  assert.equal(await start(), 8);
  await ranFor(300);
  await end("signal");
  assert.equal(await start(), 1);
  await end("success");
  assert.equal(await start(), 0);
});
