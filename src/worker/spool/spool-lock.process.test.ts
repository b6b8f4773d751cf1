import assert from "node:assert/strict";
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { lockSpool } from "./spool-lock.ts";

const root = await mkdtemp(join(tmpdir(), "dryapi-lock-"));
after(() => rm(root, { recursive: true, force: true }));

const HOLDER = `
import { lockSpool } from ${JSON.stringify(import.meta.resolve("./spool-lock.ts"))};
process.on("message", async () => {
  try {
    await lockSpool(process.argv[2]);
    process.send("held");
  } catch (thrown) {
    process.send(thrown.code);
  }
});
process.send("ready");
`;

/** A process that is about to ask for the lock. */
async function readyHolder(dir: string): Promise<ChildProcess> {
  const script = join(root, "holder.mjs");
  await writeFile(script, HOLDER);
  const child = fork(script, [dir]);
  await once(child, "message");
  return child;
}

async function ask(child: ChildProcess): Promise<{ child: ChildProcess; said: unknown }> {
  const answer = once(child, "message");
  child.send("go");
  const [said] = (await answer) as [unknown];
  return { child, said };
}

const startHolder = async (dir: string): ReturnType<typeof ask> => ask(await readyHolder(dir));

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

const isRefused = (thrown: unknown): boolean => thrown instanceof AppError && thrown.code === "CONFIG_INVALID";

test("the lock of a daemon that was killed is taken over at once", async () => {
  const dir = await mkdtemp(join(root, "killed-"));
  const { child, said } = await startHolder(dir);
  assert.equal(said, "held");
  await assert.rejects(lockSpool(dir), isRefused);
  await kill(child);
  const lock = await lockSpool(dir);
  await lock[Symbol.asyncDispose]();
  assert.deepEqual(await readdir(dir), []);
});

test("of several daemons that find a dead one's lock exactly one gets it", async () => {
  const dir = await mkdtemp(join(root, "race-"));
  const dead = await startHolder(dir);
  await kill(dead.child);
  // All of them at once: each finds the dead one's.
  const ready = await Promise.all(Array.from({ length: 8 }, () => readyHolder(dir)));
  const holders = await Promise.all(ready.map(ask));
  try {
    assert.deepEqual(
      holders.map(({ said }) => said).filter((said) => said !== "CONFIG_INVALID"),
      ["held"],
    );
  } finally {
    await Promise.all(holders.map(({ child }) => kill(child)));
  }
  assert.deepEqual(await readdir(dir), ["lock"]);
});

test("a reused pid, an earlier boot and a damaged file hold nothing", async () => {
  const dir = await mkdtemp(join(root, "stale-"));
  const path = join(dir, "lock");
  const first = await lockSpool(dir);
  const own = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  await first[Symbol.asyncDispose]();
  for (const stale of [
    { ...own, startTicks: "1" },
    { ...own, bootId: "an earlier boot" },
    { ...own, pid: 2 ** 22 + 1 },
  ]) {
    await writeFile(path, JSON.stringify(stale));
    await (await lockSpool(dir))[Symbol.asyncDispose]();
  }
  await writeFile(path, "{ cut");
  await (await lockSpool(dir))[Symbol.asyncDispose]();
});

test("a daemon in another container holds its folder as long as it shows life", async () => {
  const dir = await mkdtemp(join(root, "foreign-"));
  const path = join(dir, "lock");
  const first = await lockSpool(dir);
  const own = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  await first[Symbol.asyncDispose]();
  await writeFile(path, JSON.stringify({ ...own, pidNamespace: "pid:[1]", pid: 1 }));
  await assert.rejects(lockSpool(dir), isRefused);
  const longAgo = new Date(Date.now() - 60_000);
  await utimes(path, longAgo, longAgo);
  await (await lockSpool(dir))[Symbol.asyncDispose]();
});
