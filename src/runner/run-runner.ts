import { writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { IPC_VERSION, type RunnerCommand, type RunnerMessage } from "../protocol/ipc.ts";
import { RunnerLoop, type LoopOptions } from "./runner-loop.ts";

/**
 * What a runner process does from its start to its end. Started by the daemon only (worker/runners/runner-fork.ts), which sets
 * DRYAPI_PARENT_PID, DRYAPI_PARENT_WATCH and DRYAPI_NICE.
 */
export function runRunner({ load, prove, runtime }: Pick<LoopOptions, "load" | "prove" | "runtime">): void {
  const parentPid = Number(process.env["DRYAPI_PARENT_PID"]);
  if (process.send === undefined) {
    say("this is a part of `dryapi worker` and cannot be started by itself");
    process.exit(2);
  }
  // The parent may have died before setpriv had asked for the kernel's signal.
  if (process.ppid !== parentPid) process.exit(1);
  if (process.env["DRYAPI_PARENT_WATCH"] === "1") watchParent(parentPid);
  makeExpendable();
  // A service manager or Ctrl-C signals the whole group; when the work ends is the daemon's decision.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => undefined);

  const loop = new RunnerLoop({ send, say, load, prove, exit, ...(runtime !== undefined && { runtime }) });
  process.on("message", (command) => loop.handle(command as RunnerCommand));
  // Without a daemon there is nobody to work for. SIGKILL, since process.exit would wait for or abort in native threads.
  process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
  send({ type: "hello", version: IPC_VERSION, pid: process.pid });
}

let unsent = 0;

/** Up to 64 KiB leave at once, even when the next thing this thread does is to block (measured). */
function send(message: RunnerMessage): void {
  if (!process.connected) return;
  unsent += 1;
  process.send?.(message, undefined, undefined, () => {
    unsent -= 1;
  });
}

/** Exits once everything that was sent is in the daemon's pipe. */
function exit(code: number): void {
  if (unsent === 0 || !process.connected) process.exit(code);
  else setImmediate(() => exit(code));
}

function say(line: string): void {
  process.stderr.write(`runner: ${line}\n`);
}

function watchParent(parentPid: number): void {
  const entry = new URL(`./parent-watch${extname(import.meta.filename)}`, import.meta.url);
  new Worker(entry, { workerData: { parentPid } }).unref();
}

/** The kernel, short of memory or CPU, shall take it from a runner and not from the daemon. Neither is vital. */
function makeExpendable(): void {
  const nice = Number(process.env["DRYAPI_NICE"] ?? "0");
  try {
    if (nice > 0) setPriority(nice);
    writeFileSync("/proc/self/oom_score_adj", "500");
  } catch {
    // Not Linux, or a sandbox that forbids it.
  }
}
