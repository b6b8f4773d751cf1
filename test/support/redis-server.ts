import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { within } from "./redis-rig.ts";

/** By name: it is looked for in the PATH, as the programs do. */
const PROGRAM = "redis-server";

export interface RedisServer extends AsyncDisposable {
  /** `unix:` address. */
  readonly url: string;
  /** Address with credentials. */
  readonly urlAs: (credentials: string) => string;
  /** Where it keeps its data. */
  readonly dataDir: string;
}

/** A redis-server with these lines of configuration, in whatever trouble they make, listening on a unix socket. */
export async function startRedisServer(...lines: readonly string[]): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-server-"));
  const path = join(dir, "redis.sock");
  const dataDir = join(dir, "data");
  await mkdir(dataDir);
  const config = ["port 0", `unixsocket ${path}`, `dir ${dataDir}`, 'save ""', "appendonly no", ...lines, ""].join("\n");
  const server = spawn(PROGRAM, ["-"], { stdio: ["pipe", "pipe", "inherit"] });
  const exited = new Promise<void>((resolve) => server.once("exit", () => resolve()));
  server.stdin.end(config);
  const { promise: listening, resolve } = Promise.withResolvers<void>();
  createInterface({ input: server.stdout }).on("line", (line) => {
    // Said when it listens, before it loads anything.
    if (/Server initialized/.test(line)) resolve();
  });
  await within("a redis-server", listening);
  return {
    url: `unix:${path}`,
    urlAs: (credentials) => `unix://${credentials}@localhost${path}`,
    dataDir,
    [Symbol.asyncDispose]: async () => {
      server.kill("SIGKILL");
      await exited;
      await rm(dir, { recursive: true, force: true });
    },
  };
}
