import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");

/** The version before this one, as its own sources and packages. */
export interface OldVersion extends AsyncDisposable {
  /** What git calls it: a tag, or a commit. */
  readonly ref: string;
  readonly dir: string;
  /** Entry of its program, from the sources. */
  readonly cli: string;
  /** Entry of its built program; builds it. */
  build(): Promise<string>;
}

/**
 * What is upgraded from: the newest tag `v*` before this commit; without tags the commit in test/upgrade/baseline. Null, with what to do, where
 * the history does not reach so far.
 */
export async function previousRef(): Promise<{ readonly ref: string } | { readonly missing: string }> {
  const tag = await git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD~1").catch(() => null);
  const ref = tag ?? (await readFile(join(ROOT, "test", "upgrade", "baseline"), "utf8")).trim();
  if ((await git("cat-file", "-e", `${ref}^{commit}`).catch(() => null)) !== null) return { ref };
  return {
    missing: `commit ${ref}, the version to upgrade from, is not in this checkout: fetch it (git fetch --unshallow --tags), or clone without --depth`,
  };
}

export async function checkOut(ref: string): Promise<OldVersion> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-old-"));
  const dispose = (): Promise<void> => rm(dir, { recursive: true, force: true });
  try {
    execFileSync("sh", ["-c", 'git archive "$1" | tar -x -C "$2"', "sh", ref, dir], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
    await packages(dir);
  } catch (thrown) {
    await dispose();
    throw thrown;
  }
  return {
    ref,
    dir,
    cli: join(dir, "src", "cli.ts"),
    build: async () => {
      await run("npm", ["run", "--silent", "build"], { cwd: dir });
      return join(dir, "dist", "cli.js");
    },
    [Symbol.asyncDispose]: dispose,
  };
}

/** Those of this checkout where both versions lock the same ones, else its own. */
async function packages(dir: string): Promise<void> {
  const [theirs, ours] = await Promise.all([dir, ROOT].map((root) => lockedPackages(root)));
  if (theirs === ours) await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"), "dir");
  else await run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: dir });
}

/** Without the version of the package itself. */
async function lockedPackages(root: string): Promise<string> {
  const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8")) as { packages: Record<string, unknown> };
  const { "": _own, ...others } = lock.packages;
  return JSON.stringify(others);
}

async function git(...args: readonly string[]): Promise<string> {
  return (await run("git", args, { cwd: ROOT })).stdout.trim();
}
