import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { until, within } from "../support/redis-rig.ts";
import { startRedisServer, type RedisServer } from "../support/redis-server.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
const PASSWORD = "r1ght-passw0rd";

/** Every program that talks to Redis. */
const PROGRAMS: readonly (readonly string[])[] = [
  ["worker"],
  ["gateway"],
  ["courier"],
  ["up"],
  ["submit", "txt2img", "model=fake", "prompt=x"],
  ["status", "6f1f3d1e-1a2b-4c3d-8e4f-5a6b7c8d9e0f"],
  ["cancel", "6f1f3d1e-1a2b-4c3d-8e4f-5a6b7c8d9e0f"],
  ["clients", "list"],
];

describe("Redis in trouble", () => {
  let dir: string;
  let runs = 0;
  const children: ChildProcess[] = [];
  const servers: RedisServer[] = [];

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "dryapi-trouble-"));
  });
  after(async () => {
    for (const child of children) child.kill("SIGKILL");
    for (const server of servers) await server[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  async function serve(...lines: readonly string[]): Promise<RedisServer> {
    const server = await startRedisServer(...lines);
    servers.push(server);
    return server;
  }

  function start(
    args: readonly string[],
    redisUrl: string,
  ): { readonly child: ChildProcess; readonly text: () => string; readonly code: Promise<number | null> } {
    runs += 1;
    const state = join(dir, `state-${runs}`);
    const child = spawn(process.execPath, [CLI, ...args], {
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: dir,
        REDIS_URL: redisUrl,
        DRYAPI_STATE_DIR: state,
        DRYAPI_STORE: pathToFileURL(join(state, "objects")).href,
        DRYAPI_DEVICE: "cpu",
        DRYAPI_ADMIN_PORT: "0",
        DRYAPI_HTTP_PORT: "0",
        DRYAPI_PUBLIC_URL: "http://127.0.0.1:1",
        DRYAPI_MODELS: "fake",
        DRYAPI_SPOOL_MIN_FREE_BYTES: "0",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.push(child);
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    const code = new Promise<number | null>((resolve) => child.once("close", (exitCode) => resolve(exitCode)));
    return { child, text: () => text, code };
  }

  async function refuses(args: readonly string[], url: string, words: RegExp): Promise<void> {
    const { code, text } = start(args, url);
    const exitCode = await within(`the end of dryapi ${args.join(" ")}`, code);
    assert.equal(exitCode, 3, `${args.join(" ")}: ${text()}`);
    assert.match(text(), words, args.join(" "));
    assert.doesNotMatch(text(), new RegExp(PASSWORD), args.join(" "));
    assert.doesNotMatch(text(), /^\s+at .*\(?file:/m, "an expected failure needs no stack");
  }

  test("a wrong password ends every program at once with exit code 3 and the cause", async () => {
    const { urlAs } = await serve(`requirepass ${PASSWORD}`);
    for (const args of PROGRAMS) await refuses(args, urlAs(":wr0ng-password"), /Redis refuses the password .*REDIS_URL/);
  });

  test("so do a missing password, a user without rights and a database that is not there", async () => {
    const { url, urlAs } = await serve(
      `requirepass ${PASSWORD}`,
      "user reader on >reader-password ~* &* +@read +@connection +info",
      "databases 2",
    );
    await refuses(["worker"], url, /wants a password and REDIS_URL has none/);
    await refuses(["gateway"], urlAs("reader:reader-password"), /may not run a command that is needed/);
    await refuses(["clients", "list"], `${urlAs(`:${PASSWORD}`)}?db=9`, /no database of that number/);
  });

  test("commands end at once where writes fail; daemons say what they wait for", async () => {
    const { url } = await serve("maxmemory 1");
    await refuses(["submit", "txt2img", "model=fake", "prompt=x"], url, /out of memory \(maxmemory\)/);
    const { text, child, code } = start(["gateway"], url);
    await until("the cause in the log", () => /Redis is out of memory \(maxmemory\)/.test(text()));
    await command(url, "CONFIG", "SET", "maxmemory", "0");
    await until("a gateway that is ready", () => text().includes('"msg":"gateway ready"'));
    child.kill("SIGTERM");
    assert.equal(await within("the end of the gateway", code), 0, text());
  });

  for (const program of ["worker", "gateway", "courier"]) {
    test(`a ${program} whose Redis is demoted is not ready, says why, and is ready again after`, async () => {
      const { url } = await serve();
      const { text, child, code } = start([program], url);
      const admin = await until("the admin listener", () => /"admin":"([^"]+)"/.exec(text())?.[1] ?? null);
      const redis = async (): Promise<{ readonly ok: boolean; readonly detail?: string } | undefined> => {
        const { checks } = (await (await fetch(`${admin}/readyz`)).json()) as { checks: Record<string, { ok: boolean; detail?: string }> };
        return checks["redis"];
      };
      await until("a Redis that works", async () => (await redis())?.ok === true);
      await command(url, "REPLICAOF", "127.0.0.1", "1");
      const broken = await redis();
      assert.equal(broken?.ok, false);
      assert.match(broken.detail ?? "", /replica that takes no writes .*set REDIS_URL to the primary/);
      await until("the cause in the log", () => /"redis":"[^"]*replica that takes no writes/.test(text()));
      await command(url, "REPLICAOF", "NO", "ONE");
      await until("a Redis that works again", async () => (await redis())?.ok === true);
      child.kill("SIGTERM");
      assert.equal(await within(`the end of the ${program}`, code), 0, text());
    });
  }
});

async function command(url: string, ...[name, ...args]: readonly [string, ...string[]]): Promise<void> {
  const redis = connectRedis({ url, role: "producer" });
  await redis.call(name, ...args);
  redis.disconnect();
}
