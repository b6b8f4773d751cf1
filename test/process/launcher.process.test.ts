import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";

const ROOT = join(import.meta.dirname, "..", "..");

/** Says that it runs, then does what it is told; answers signals but keeps running. */
const PROGRAM = `
const [verb, value] = process.argv.slice(2);
if (verb === "serve") {
  setInterval(() => undefined, 1000);
  process.on("SIGTERM", () => { console.log(JSON.stringify("SIGTERM")); process.exit(7); });
}
console.log(JSON.stringify({ pid: process.pid, major: Number(process.versions.node.split(".")[0]), args: process.argv.slice(2), watched: process.env.WATCHDOG_PID ?? null }));
if (verb === "exit") process.exitCode = Number(value);
if (verb === "die") process.kill(process.pid, value);
`;

/** An older Node of this machine, which is what the launcher is for; null where there is none. */
function olderNode(): string | null {
  for (const dir of (process.env["PATH"] ?? "").split(delimiter)) {
    const node = join(dir, "node");
    try {
      const major = Number(
        execFileSync(node, ["-p", "process.versions.node.split('.')[0]"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
      );
      if (major >= 20 && major < 24) return node;
    } catch {
      // Not here.
    }
  }
  return null;
}

interface Launched {
  readonly launcher: ChildProcess;
  readonly next: () => Promise<unknown>;
  readonly exit: Promise<{ readonly code: number | null; readonly signal: string | null }>;
}

async function launch(t: TestContext, node: string, args: readonly string[]): Promise<Launched> {
  const root = await mkdtemp(join(tmpdir(), "dryapi-launcher-"));
  t.after(() => rm(root, { recursive: true }));
  await mkdir(join(root, "scripts"));
  await mkdir(join(root, "src"));
  await copyFile(join(ROOT, "scripts/dryapi.mjs"), join(root, "scripts/dryapi.mjs"));
  await symlink(join(ROOT, "node_modules"), join(root, "node_modules"));
  await writeFile(join(root, "src/cli.ts"), PROGRAM);
  await writeFile(join(root, "package.json"), '{"type":"module"}');
  // As systemd starts it: the watchdog's process is the launcher's.
  const asUnit = ["-c", 'WATCHDOG_PID=$$ exec "$@"', "sh", node, join(root, "scripts/dryapi.mjs"), ...args];
  const launcher = spawn("sh", asUnit, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => launcher.kill("SIGKILL"));
  assert.ok(launcher.stdout);
  const lines = createInterface({ input: launcher.stdout })[Symbol.asyncIterator]();
  const exit = new Promise<{ code: number | null; signal: string | null }>((resolve) =>
    launcher.once("exit", (code, signal) => resolve({ code, signal })),
  );
  return {
    launcher,
    next: async () => {
      const line = await lines.next();
      return line.done === true ? null : (JSON.parse(line.value) as unknown);
    },
    exit,
  };
}

const nodes = [
  ["this Node", process.execPath],
  ["an older Node", olderNode()],
] as const;

for (const [name, node] of nodes) {
  const skip = node === null ? "this machine has no Node 20 to 23 in its PATH" : false;

  test(`${name}: the program runs on Node 24 or newer with all its arguments, and its exit code is the launcher's`, { skip }, async (t) => {
    const run = await launch(t, node ?? "", ["exit", "5", "a b", "--flag"]);
    const said = (await run.next()) as { major: number; args: string[] };
    assert.ok(said.major >= 24);
    assert.deepEqual(said.args, ["exit", "5", "a b", "--flag"]);
    assert.deepEqual(await run.exit, { code: 5, signal: null });
  });

  test(`${name}: a program that dies by a signal takes the launcher with it the same way`, { skip }, async (t) => {
    const run = await launch(t, node ?? "", ["die", "SIGKILL"]);
    assert.deepEqual(await run.exit, { code: null, signal: "SIGKILL" });
  });

  test(`${name}: the watchdog watches the program, never a process that stands before it`, { skip }, async (t) => {
    const run = await launch(t, node ?? "", ["exit", "0"]);
    const { pid, watched } = (await run.next()) as { pid: number; watched: string | null };
    // Unset, it means whoever asks.
    assert.ok(watched === null || watched === String(pid), `${watched} is not ${pid}`);
    assert.deepEqual(await run.exit, { code: 0, signal: null });
  });

  test(`${name}: SIGTERM reaches the program, which decides how to end`, { skip }, async (t) => {
    const run = await launch(t, node ?? "", ["serve"]);
    await run.next();
    run.launcher.kill("SIGTERM");
    assert.equal(await run.next(), "SIGTERM");
    assert.deepEqual(await run.exit, { code: 7, signal: null });
  });
}

test(
  "an older Node: when the launcher is killed with -9 the program does not run on",
  { skip: nodes[1][1] === null ? "this machine has no Node 20 to 23 in its PATH" : false },
  async (t) => {
    const run = await launch(t, nodes[1][1] ?? "", ["serve"]);
    await run.next();
    run.launcher.kill("SIGKILL");
    // A child is told; from Node 22.15 on the launcher is the program.
    const said = await run.next();
    if (said !== null) assert.equal(said, "SIGTERM");
    if (said !== null) assert.equal(await run.next(), null, "its stdout is closed: it is gone");
  },
);
