/**
 * `node scripts/run-page.ts docs/rehearsals.md`: runs the page's `sh` blocks one after the other in one bash, with `dryapi` as this checkout's
 * command, and compares what each prints with the `text` block behind it: its lines in this order, `…` for anything. Exit 1 at the first that
 * differs.
 */
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { mkdtemp, readFile, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

interface Block {
  readonly heading: string;
  readonly script: string;
  /** What its output holds, a line each; null = nothing is said of it. */
  readonly expected: readonly string[] | null;
}

const TIMEOUT_MS = 600_000;
const root = join(import.meta.dirname, "..");
const [page = ""] = process.argv.slice(2);
const blocks = blocksOf(await readFile(page, "utf8"));
if (blocks.length === 0) throw new Error(`${page} has no sh blocks`);

// A program and no shell function: a page that kills what it started must meet the program itself.
const bin = await mkdtemp(join(tmpdir(), "dryapi-page-"));
await symlink(join(root, "scripts", "dryapi.mjs"), join(bin, "dryapi"));
const bash = spawn("bash", ["-s"], {
  cwd: root,
  stdio: ["pipe", "pipe", "inherit"],
  env: { ...process.env, PATH: `${bin}:${join(root, "node_modules", ".bin")}:${process.env["PATH"] ?? ""}`, DRYAPI_TEST_MODELS: "on" },
  detached: true,
});
let printed: string[] = [];
let atEnd = (): void => undefined;
createInterface({ input: bash.stdout }).on("line", (line) => (line === "=== end of block" ? atEnd() : void printed.push(line)));
let whenGone = (_code: number | null): void => undefined;
bash.once("exit", (code) => whenGone(code));

// The shell's group: whatever its blocks left running goes, too.
const end = (code: number): never => {
  process.kill(-(bash.pid ?? 0), "SIGTERM");
  rmSync(bin, { recursive: true });
  process.exit(code);
};
process.once("SIGTERM", () => end(143)).once("SIGINT", () => end(130));

let failed = false;
for (const { heading, script, expected } of blocks) {
  const { promise, resolve } = Promise.withResolvers<string>();
  atEnd = () => resolve("");
  whenGone = (code) => resolve(`the shell ended with code ${code}`);
  const timer = setTimeout(() => resolve(`no end within ${TIMEOUT_MS / 1_000} s`), TIMEOUT_MS);
  printed = [];
  const started = performance.now();
  bash.stdin.write(`${script}\necho "=== end of block"\n`);
  const trouble = (await promise) || (expected === null ? "" : difference(expected, printed));
  clearTimeout(timer);
  const seconds = ((performance.now() - started) / 1_000).toFixed(1);
  process.stdout.write(`${trouble === "" ? "ok    " : "FAILED"} ${heading} (${seconds} s)\n`);
  if (trouble === "") continue;
  process.stdout.write(`  ${trouble}; it printed:\n${printed.map((line) => `  | ${line}`).join("\n")}\n`);
  failed = true;
  break;
}
end(failed ? 1 : 0);

function blocksOf(text: string): readonly Block[] {
  const found: Block[] = [];
  const pattern = /^## (.+)$|^```sh\n([\s\S]*?)^```(?:\n\n```text\n([\s\S]*?)^```)?/gm;
  let heading = page;
  for (const [, title, script, expected] of text.matchAll(pattern)) {
    if (title !== undefined) heading = title;
    if (script !== undefined) found.push({ heading, script, expected: expected?.trimEnd().split("\n") ?? null });
  }
  return found;
}

function difference(expected: readonly string[], lines: readonly string[]): string {
  let from = 0;
  for (const each of expected) {
    const literals = each.split("…").map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
    const pattern = new RegExp(`^${literals.join(".*")}$`);
    const at = lines.findIndex((line, i) => i >= from && pattern.test(line));
    if (at < 0) return `expected the line ${JSON.stringify(each)}`;
    from = Math.max(from, at + 1);
  }
  return "";
}
