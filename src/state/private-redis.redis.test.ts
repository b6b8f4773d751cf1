import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import type { Redis } from "ioredis";
import { isGone, ready, until, within } from "../../test/support/redis-rig.ts";
import { connectRedis } from "./connect-redis.ts";
import { startPrivateRedis } from "./private-redis.ts";

const MODULE = join(import.meta.dirname, "private-redis.ts");

/** A folder that is removed at the end of the test. */
async function folder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "dryapi-private-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function connected(url: string): Promise<Disposable & { readonly redis: Redis }> {
  const redis = connectRedis({ url, role: "producer" });
  await ready(redis);
  return { redis, [Symbol.dispose]: () => redis.disconnect() };
}

async function write(url: string, text: string): Promise<void> {
  using client = await connected(url);
  await client.redis.set("key", text);
}

async function read(url: string): Promise<string | null> {
  using client = await connected(url);
  return await client.redis.get("key");
}

test("data survive kill -9, and a second start on the same folder has them on the same socket", async () => {
  await using dir = await folder();
  await using first = await startPrivateRedis({ dir: dir.path });
  await write(first.url, "kept");
  await first.kill9();
  assert.ok(await isGone(first.pid));
  await using second = await startPrivateRedis({ dir: dir.path });
  assert.equal(second.url, first.url);
  assert.notEqual(second.pid, first.pid);
  assert.equal(await read(second.url), "kept");
});

test("stop ends the process, keeps the data and takes the socket away", async () => {
  await using dir = await folder();
  await using first = await startPrivateRedis({ dir: dir.path });
  await write(first.url, "kept");
  await within("stop", first.stop());
  await within("exited", first.exited);
  assert.ok(await isGone(first.pid));
  await assert.rejects(stat(first.path), { code: "ENOENT" });
  await within("a second stop", first.stop());
  await using second = await startPrivateRedis({ dir: dir.path });
  assert.equal(await read(second.url), "kept");
});

test("without the append-only file a crash loses the data", async () => {
  await using dir = await folder();
  await using first = await startPrivateRedis({ dir: dir.path, appendOnly: false });
  await write(first.url, "lost");
  await first.kill9();
  await using second = await startPrivateRedis({ dir: dir.path, appendOnly: false });
  assert.equal(await read(second.url), null);
});

test("it listens on no port, is for its user alone and evicts nothing", async () => {
  await using dir = await folder();
  await using server = await startPrivateRedis({ dir: join(dir.path, "made", "by it") });
  using client = await connected(server.url);
  for (const [name, wanted] of [
    ["port", "0"],
    ["maxmemory-policy", "noeviction"],
    ["appendonly", "yes"],
    ["appendfsync", "everysec"],
  ] as const) {
    assert.deepEqual(await client.redis.config("GET", name), [name, wanted]);
  }
  assert.equal((await stat(server.path)).mode & 0o777, 0o700);
  assert.equal((await stat(dirname(server.path))).mode & 0o777, 0o700);
});

test("a folder whose name is long, or holds quotes, spaces and letters of any alphabet, serves as well", async () => {
  await using dir = await folder();
  for (const name of ["long-".repeat(25), `it's "quoted" \\ größe`]) {
    const path = join(dir.path, name);
    await using server = await startPrivateRedis({ dir: path });
    assert.ok(Buffer.byteLength(server.path) <= 107, server.path);
    await write(server.url, name);
    await server.stop();
    assert.ok((await readdir(path)).includes("appendonlydir"), "the data lie elsewhere");
    await assert.rejects(stat(server.path), { code: "ENOENT" });
    if (dirname(server.path) !== path) await assert.rejects(stat(dirname(server.path)), { code: "ENOENT" }, "its folder was left behind");
    await using again = await startPrivateRedis({ dir: path });
    assert.equal(await read(again.url), name);
  }
});

test("a folder in use is refused: two servers would damage its files", async () => {
  await using dir = await folder();
  await using first = await startPrivateRedis({ dir: dir.path });
  await write(first.url, "kept");
  await assert.rejects(startPrivateRedis({ dir: dir.path }), { code: "CONFIG_INVALID", message: /in use/ });
  assert.equal(await read(first.url), "kept");
});

test("one that does not start says why and leaves no process", async () => {
  await using dir = await folder();
  await using first = await startPrivateRedis({ dir: dir.path });
  await write(first.url, "kept");
  await first.stop();
  await writeFile(join(dir.path, "appendonlydir", "appendonly.aof.manifest"), "garbage");
  await assert.rejects(within("a start", startPrivateRedis({ dir: dir.path })), {
    code: "REDIS_UNAVAILABLE",
    message: /did not start: it ended with 1; it said: .*AOF/is,
  });
});

test("without a redis-server the message says what to install", async () => {
  await using dir = await folder();
  const path = process.env["PATH"];
  const empty = join(dir.path, "empty");
  await mkdir(empty);
  process.env["PATH"] = empty;
  try {
    await assert.rejects(startPrivateRedis({ dir: dir.path }), { code: "REDIS_UNAVAILABLE", message: /install redis-server.*REDIS_URL/ });
  } finally {
    process.env["PATH"] = path;
  }
});

test("it dies with its parent, but is in no process group that the parent's Ctrl-C reaches", async () => {
  await using dir = await folder();
  const code = `import { startPrivateRedis } from ${JSON.stringify(MODULE)};
    const server = await startPrivateRedis({ dir: ${JSON.stringify(dir.path)} });
    console.log(server.pid);
    setInterval(() => undefined, 1_000);`;
  const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [text] = (await within("the pid", once(createInterface({ input: parent.stdout }), "line"))) as [string];
    const pid = Number(text);
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    assert.match(stat, /^\d+ \((redis|valkey)-server\) /);
    const [, ppid, group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    assert.deepEqual([Number(ppid), Number(group)], [parent.pid, pid]);
    parent.kill("SIGKILL");
    await until("the end of redis-server", () => isGone(pid));
  } finally {
    parent.kill("SIGKILL");
  }
});
