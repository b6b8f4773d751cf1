#!/usr/bin/env node
/**
 * The `dryapi` command on whatever Node >= 20 started it. Node 24 runs the program in this process. An older one becomes the Node 24 that
 * came as an npm package; where it cannot (before 22.15) it starts that as a child and is transparent from there: same stdio, signals passed
 * on, same exit code or death by signal.
 */
import { spawn } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const NEEDED_MAJOR = 24;
const root = fileURLToPath(new URL("..", import.meta.url));
// The sources win: in a checkout `dist` may be of yesterday. A packed or installed dryapi-worker has no sources.
const entry = [join(root, "src", "cli.ts"), join(root, "dist", "cli.js")].find((path) => existsSync(path));

if (entry === undefined) {
  fail(`dryapi: neither src/cli.ts nor dist/cli.js in ${root}; the installation is incomplete, install dryapi-worker again`);
} else if (Number(process.versions.node.split(".")[0]) >= NEEDED_MAJOR) {
  process.argv[1] = entry;
  await import(pathToFileURL(entry).href);
} else {
  const node = findNode();
  if (node === undefined) {
    fail(
      `dryapi: needs Node ${NEEDED_MAJOR}, this is ${process.version}, and no package brought one for ${process.platform}-${process.arch}; in a checkout run scripts/setup, elsewhere install Node ${NEEDED_MAJOR}`,
    );
  } else {
    runWith(node, entry);
  }
}

/** @returns {string | undefined} */
function findNode() {
  const require = createRequire(import.meta.url);
  const packaged = `node-linux-${process.arch}/bin/node`;
  const candidates = [join(root, "node_modules", ".bin", "node")];
  try {
    candidates.push(require.resolve(packaged));
  } catch {
    // Not installed: the candidates before and the message after cover it.
  }
  return candidates.find(isExecutable);
}

/** @param {string} node @param {string} script */
function runWith(node, script) {
  const command = [node, script, ...process.argv.slice(2)];
  if (typeof process.execve === "function" && process.platform !== "win32") {
    process.execve(node, command);
    return;
  }
  // With setpriv the program also gets SIGTERM when this process is killed with -9: it never runs on without the one that started it.
  const setpriv = (process.env.PATH ?? "")
    .split(delimiter)
    .map((dir) => join(dir, "setpriv"))
    .find(isExecutable);
  const [file = node, ...args] =
    process.platform === "linux" && setpriv !== undefined ? [setpriv, "--pdeathsig", "TERM", ...command] : command;
  const child = spawn(file, args, { stdio: "inherit", env: watchedEnvironment() });
  // A terminal sends Ctrl-C to the child as well: the program counts signals that come within a moment of each other as one.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2"]) process.on(signal, () => child.kill(signal));
  child.once("error", (error) => fail(`dryapi: cannot start ${file}: ${error.message}`));
  child.once("exit", (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

/** systemd's watchdog names this process, and the child is the one that can tell how it is: without the name it is meant. */
function watchedEnvironment() {
  const { WATCHDOG_PID: watched, ...others } = process.env;
  return watched === String(process.pid) ? others : process.env;
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @param {string} message */
function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exitCode = 2;
}
