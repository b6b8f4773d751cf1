/**
 * `node scripts/set-version.ts 0.2.0`: the version of this checkout, everywhere where it stands. After a release the next one begins with `-dev`.
 * test/deploy/version.test.ts finds places that disagree.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";

const ROOT = join(import.meta.dirname, "..");
/** A tag that ends in -cpu names the variant of an image after its version. */
const VERSION = String.raw`\d+\.\d+\.\d+(?:-(?:dev|alpha|beta|rc)(?:\.\d+)*)?`;
/** What stands before a version of ours, in files that people copy from. */
const BEFORE = String.raw`dryapi-worker:|newTag: "?|ARG VERSION=|\/opt\/dryapi-(?=\d)|dryapi-worker-(?=\d)|image\.version="?|app\.kubernetes\.io/version: "?`;
const PLACES = ["deploy", "docs", "README.md", "Dockerfile.cuda"];

export interface VersionPlace {
  /** File and line. */
  readonly at: string;
  readonly version: string;
}

/** Everywhere but in package.json and package-lock.json. */
export async function versionPlaces(): Promise<readonly VersionPlace[]> {
  const found: VersionPlace[] = [];
  for (const file of await files()) {
    const lines = (await readFile(file, "utf8")).split("\n");
    for (const [index, line] of lines.entries()) {
      for (const [, version = ""] of line.matchAll(pattern())) found.push({ at: `${relative(ROOT, file)}:${index + 1}`, version });
    }
  }
  return found;
}

/** What package.json and package-lock.json say. */
export async function packageVersions(): Promise<readonly VersionPlace[]> {
  const [own, lock] = await Promise.all(["package.json", "package-lock.json"].map((name) => readFile(join(ROOT, name), "utf8")));
  const locked = JSON.parse(lock ?? "") as { version: string; packages: Readonly<Record<string, { version: string }>> };
  return [
    { at: "package.json", version: (JSON.parse(own ?? "") as { version: string }).version },
    { at: "package-lock.json", version: locked.version },
    { at: 'package-lock.json, packages[""]', version: locked.packages[""]?.version ?? "" },
  ];
}

function pattern(): RegExp {
  return new RegExp(`(?:${BEFORE})(${VERSION})`, "g");
}

async function files(): Promise<readonly string[]> {
  const found: string[] = [];
  for (const place of PLACES) {
    const entries = await readdir(join(ROOT, place), { recursive: true, withFileTypes: true }).catch(() => null);
    if (entries === null) found.push(join(ROOT, place));
    else found.push(...entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name)));
  }
  return found.toSorted();
}

async function edit(file: string, change: (text: string) => string): Promise<void> {
  const text = await readFile(file, "utf8");
  const changed = change(text);
  if (changed !== text) await writeFile(file, changed);
}

if (import.meta.main) {
  const [wanted = ""] = process.argv.slice(2);
  if (!new RegExp(`^${VERSION}$`).test(wanted)) {
    process.stderr.write(`set-version: the version is ${JSON.stringify(wanted)}, expected one such as 0.2.0 or 0.2.0-dev\n`);
    process.exit(2);
  }
  const own = new RegExp(`("name": "dryapi-worker",\\s*"version": )"${VERSION}"`, "g");
  for (const name of ["package.json", "package-lock.json"]) {
    await edit(join(ROOT, name), (text) => text.replaceAll(own, (_all, before: string) => `${before}"${wanted}"`));
  }
  for (const file of await files()) {
    await edit(file, (text) =>
      text.replaceAll(pattern(), (all, version: string) => `${all.slice(0, all.length - version.length)}${wanted}`),
    );
  }
}
