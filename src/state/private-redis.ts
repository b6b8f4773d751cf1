import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { access, mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { makeFolders } from "../lib/make-folders.ts";
import { AppError } from "../protocol/error.ts";

/** A unix socket's path is at most 107 bytes. */
const MAX_SOCKET_PATH = 107;
const START_TIMEOUT_MS = 30_000;

export interface PrivateRedis extends AsyncDisposable {
  /** `unix:<socket>`, for `connectRedis`. */
  readonly url: string;
  readonly path: string;
  readonly pid: number;
  readonly exited: Promise<void>;
  /** SIGTERM: flushes the append-only file. */
  stop(): Promise<void>;
  /** As a crash would; the data on disk stay. */
  kill9(): Promise<void>;
}

/**
 * A redis-server of our own: unix socket, no TCP, append-only file flushed every second, nothing evicted. Dies with this process. Started
 * again on the same folder it has its data back.
 * @throws AppError REDIS_UNAVAILABLE when there is no redis-server in the PATH or it does not start; CONFIG_INVALID when one runs there
 */
export async function startPrivateRedis(options: { readonly dir: string; readonly appendOnly?: boolean }): Promise<PrivateRedis> {
  await makeFolders(options.dir, 0o700).catch((cause: unknown) => {
    throw new AppError(
      "CONFIG_INVALID",
      `folder ${options.dir} of the private redis-server cannot be made: ${String(cause)}; set DRYAPI_STATE_DIR to a folder that this user may write`,
      { cause },
    );
  });
  const wanted = join(options.dir, "redis.sock");
  const fits = Buffer.byteLength(wanted) <= MAX_SOCKET_PATH;
  if (fits && (await answers(wanted)))
    throw new AppError("CONFIG_INVALID", `folder ${options.dir} is in use by a running redis-server: a second one would damage its files`);
  const socketDir = fits ? null : await mkdtemp(join(tmpdir(), "dryapi-redis-"));
  const path = socketDir === null ? wanted : join(socketDir, "redis.sock");
  const server = (await findInPath("redis-server")) ?? (await findInPath("valkey-server"));
  if (server === null)
    throw new AppError(
      "REDIS_UNAVAILABLE",
      "redis-server is not in the PATH: install it (Debian: apt-get install redis-server) or set REDIS_URL",
    );
  const cleanUp = async (): Promise<void> => {
    if (socketDir !== null) await rm(socketDir, { recursive: true, force: true });
  };
  const child = await launch(server, configOf(options.dir, path, options.appendOnly ?? true)).catch(async (thrown: unknown) => {
    await cleanUp();
    throw thrown;
  });
  const ended = child.exitCode !== null || child.signalCode !== null;
  const exited = (ended ? Promise.resolve() : new Promise<void>((resolve) => child.once("exit", () => resolve()))).then(cleanUp);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    child.kill(signal);
    await exited;
  };
  return {
    url: `unix:${path}`,
    path,
    pid: child.pid ?? 0,
    exited,
    stop: () => end("SIGTERM"),
    kill9: () => end("SIGKILL"),
    [Symbol.asyncDispose]: () => (child.exitCode === null && child.signalCode === null ? end("SIGTERM") : Promise.resolve()),
  };
}

function configOf(dir: string, socket: string, appendOnly: boolean): string {
  return [
    "port 0",
    `unixsocket ${JSON.stringify(socket)}`,
    "unixsocketperm 700",
    `dir ${JSON.stringify(dir)}`,
    `appendonly ${appendOnly ? "yes" : "no"}`,
    "appendfsync everysec",
    'save ""',
    "maxmemory-policy noeviction",
    "daemonize no",
    "",
  ].join("\n");
}

/** Resolves when it accepts connections. */
async function launch(server: string, config: string): Promise<ChildProcess> {
  const setpriv = await findInPath("setpriv");
  const [command, ...args] = setpriv === null ? [server, "-"] : [setpriv, "--pdeathsig", "KILL", "--", server, "-"];
  // In a process group of its own: a terminal's Ctrl-C is for the worker, which still needs Redis while it drains.
  const child = spawn(command ?? server, args, { stdio: ["pipe", "pipe", "inherit"], detached: true });
  child.stdin.end(config);
  const said: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (why: string): void =>
    reject(new AppError("REDIS_UNAVAILABLE", `the private redis-server did not start: ${why}; it said: ${said.slice(-5).join(" | ")}`));
  const timer = setTimeout(() => fail(`not ready after ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
  child.once("error", (error) => fail(error.message));
  child.once("exit", (code, signal) => fail(`it ended with ${signal ?? code}`));
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (said.push(line) > 20) said.shift();
    if (/ready to accept connections/i.test(line)) resolve();
  });
  try {
    await promise;
  } catch (thrown) {
    child.kill("SIGKILL");
    throw thrown;
  } finally {
    clearTimeout(timer);
  }
  return child;
}

/** Whether a server listens on the socket. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function findInPath(name: string): Promise<string | null> {
  for (const dir of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(dir || ".", name);
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path;
  }
  return null;
}
