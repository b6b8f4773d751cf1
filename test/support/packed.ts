import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

export const ROOT: string = join(import.meta.dirname, "..", "..");
const exec = promisify(execFile);

export interface Packed extends AsyncDisposable {
  /** A folder that goes with it. */
  readonly dir: string;
  readonly tarball: string;
  /** Paths in the tarball, without its leading `package/`. */
  readonly files: readonly string[];
}

/** What git has of this checkout, or would take: as a clean clone with these changes would have it. */
export async function copyCheckout(to: string): Promise<readonly string[]> {
  const { stdout } = await exec("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT, maxBuffer: 2 ** 24 });
  const files = stdout.split("\0").filter((path) => path !== "");
  for (const folder of new Set(files.map((path) => dirname(path)))) await mkdir(join(to, folder), { recursive: true });
  // A file that was removed and not yet committed is listed still.
  await Promise.all(files.map((path) => cp(join(ROOT, path), join(to, path)).catch(ignoreMissing)));
  return files;
}

function ignoreMissing(thrown: unknown): void {
  if ((thrown as NodeJS.ErrnoException).code !== "ENOENT") throw thrown;
}

/** `npm pack` in a copy of this checkout, with the packages that are installed here. */
export async function packCheckout(): Promise<Packed> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-pack-"));
  const checkout = join(dir, "checkout");
  await copyCheckout(checkout);
  await symlink(join(ROOT, "node_modules"), join(checkout, "node_modules"));
  const { stdout } = await exec("npm", ["pack", "--silent", "--pack-destination", dir], { cwd: checkout });
  const tarball = join(dir, stdout.trim());
  const list = await exec("tar", ["-tzf", tarball], { maxBuffer: 2 ** 24 });
  const files = list.stdout.split("\n").flatMap((line) => (line.startsWith("package/") ? [line.slice("package/".length)] : []));
  return { dir, tarball, files, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}
