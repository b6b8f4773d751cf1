/**
 * Loaded into a gateway or a worker by `--import` (hops.ts): notes when commands to Redis, calls of the file system, messages between
 * daemon and runner, HTTP requests and frames to sockets begin and end. It looks at the program from outside, so that the program needs no
 * marks, and any checkout can be looked at. What was noted is written into BENCH_HOPS_DIR when the process exits.
 */
import childProcess, { type ChildProcess, type ForkOptions } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import type { EventEmitter } from "node:events";
import fs, { writeFileSync } from "node:fs";
import fsPromises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { WebSocket } from "ws";

export interface Mark {
  /** Milliseconds of the machine's monotonic clock, the same in all processes. */
  readonly at: number;
  readonly name: string;
}

const DIR = process.env["BENCH_HOPS_DIR"] ?? "";
const ROLE = ["gateway", "worker"].find((role) => process.argv.includes(role)) ?? "runner";
const marks: Mark[] = [];

function mark(name: string): void {
  marks.push({ at: Number(process.hrtime.bigint()) / 1e6, name: `${ROLE} ${name}` });
}

type Call = (...args: never[]) => unknown;

/** Notes the begin and the end of a function that returns a promise. */
function watch(holder: Record<string, Call>, name: string): void {
  const inner = holder[name] as Call;
  holder[name] = function (this: unknown, ...args: never[]): unknown {
    mark(`fs ${name} >`);
    const result = Reflect.apply(inner, this, args) as Promise<unknown>;
    const end = (): void => mark(`fs ${name} <`);
    result.then(end, end);
    return result;
  };
}

function watchFiles(): void {
  const calls = ["mkdir", "readdir", "rmdir", "rm", "stat", "lstat", "writeFile", "readFile", "rename", "open", "unlink", "link"];
  for (const name of calls) watch(fsPromises as unknown as Record<string, Call>, name);
  const stream = fs.createReadStream;
  fs.createReadStream = (...args: Parameters<typeof stream>) => {
    mark("fs read stream >");
    return stream(...args).once("close", () => mark("fs read stream <"));
  };
}

async function watchFileHandles(): Promise<void> {
  const handle = await fsPromises.open(process.execPath);
  const prototype = Object.getPrototypeOf(handle) as Record<string, Call>;
  await handle.close();
  for (const name of ["read", "readFile", "writeFile", "write", "sync", "datasync", "stat"]) watch(prototype, name);
}

/** The command and its first key, with ids left out. */
function commandName(command: string, args: readonly string[]): string {
  const key = args.find((arg) => arg.includes(":")) ?? "";
  return `${command} ${key.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "ID")}`;
}

/** What ioredis tells of a command. */
interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

function watchRedis(): void {
  const noted = (sign: string) => (told: unknown) => {
    const { command, args } = told as Command;
    mark(`redis ${commandName(command, args)} ${sign}`);
  };
  subscribe("tracing:ioredis:command:start", noted(">"));
  subscribe("tracing:ioredis:command:asyncEnd", noted("<"));
}

interface Message {
  readonly type: string;
}

/** Notes the messages that one end of a channel sends and gets. */
function watchChannel(end: EventEmitter & { send?: unknown }): void {
  const inner = end.send as Call;
  end.send = (...args: never[]): unknown => {
    mark(`ipc ${(args[0] as unknown as Message).type} >`);
    return Reflect.apply(inner, end, args) as unknown;
  };
  end.on("message", ({ type }: Message) => mark(`ipc ${type} <`));
}

function watchRunners(): void {
  const { fork } = childProcess;
  childProcess.fork = ((entry: string, args: readonly string[], options: ForkOptions): ChildProcess => {
    const execArgv = [...(options.execArgv ?? []), `--import=${import.meta.filename}`];
    const child = fork(entry, args, { ...options, execArgv, env: { ...options.env, BENCH_HOPS_DIR: DIR } });
    watchChannel(child);
    return child;
  }) as typeof fork;
}

function watchHttp(): void {
  subscribe("http.server.request.start", () => mark("http request <"));
  subscribe("http.server.response.finish", () => mark("http response >"));
}

function watchSockets(): void {
  const holder = WebSocket.prototype as unknown as Record<string, Call>;
  const inner = holder["send"] as Call;
  holder["send"] = function (this: unknown, ...args: never[]): unknown {
    mark("socket frame >");
    return Reflect.apply(inner, this, args) as unknown;
  };
}

watchFiles();
await watchFileHandles();
if (ROLE === "runner") watchChannel(process);
else watchRedis();
if (ROLE === "worker") watchRunners();
if (ROLE === "gateway") {
  watchHttp();
  watchSockets();
}
syncBuiltinESMExports();
process.on("exit", () => writeFileSync(join(DIR, `${ROLE}-${process.pid}.json`), JSON.stringify(marks)));
