/**
 * Adds to package-lock.json the optional packages of other platforms that npm left out, since `npm ci` refuses a lock file without them
 * ("Missing: ... from lock file"). npm leaves them out when the registry that it asked did not offer them (a filtered mirror). They are
 * never fetched on a platform that is not theirs. Run it after each change of dependencies; with --check it only says what is missing.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

interface Entry {
  readonly version?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly [key: string]: unknown;
}

interface Lock {
  packages: Record<string, Entry>;
  readonly [key: string]: unknown;
}

const SYSTEMS = ["android", "darwin", "freebsd", "linux", "openharmony", "win32", "sunos", "netbsd", "openbsd", "aix"];
const PROCESSORS = ["arm64", "x64", "arm", "ia32", "ppc64", "riscv64", "s390x", "loong64", "mips64el", "wasm32"];

/** A platform package's name says where it belongs; null when it does not. */
function platformEntry(name: string, version: string): Entry | null {
  const words = name.split(/[/-]/);
  const os = words.find((word) => SYSTEMS.includes(word));
  const cpu = words.find((word) => PROCESSORS.includes(word));
  if (os === undefined || cpu === undefined || !/^\d+\.\d+\.\d+/.test(version)) return null;
  const libc = words.some((word) => word.startsWith("musl")) ? ["musl"] : words.some((word) => word.startsWith("gnu")) ? ["glibc"] : null;
  return { version, cpu: [cpu], ...(os === "linux" && libc !== null ? { libc } : {}), optional: true, os: [os] };
}

function missingEntries(packages: Lock["packages"]): Map<string, Entry> {
  const missing = new Map<string, Entry>();
  for (const [path, entry] of Object.entries(packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      if (packages[`node_modules/${name}`] !== undefined || packages[`${path}/node_modules/${name}`] !== undefined) continue;
      const added = platformEntry(name, version);
      if (added === null)
        throw new Error(`${name}@${version}, optional in ${path}, is not in package-lock.json and its name names no platform`);
      missing.set(`node_modules/${name}`, entry["dev"] === true ? { ...added, dev: true } : added);
    }
  }
  return missing;
}

const path = join(import.meta.dirname, "..", "package-lock.json");
const lock = JSON.parse(await readFile(path, "utf8")) as Lock;
const missing = missingEntries(lock.packages);
if (missing.size > 0 && process.argv.includes("--check")) {
  process.stderr.write(
    `package-lock.json lacks ${[...missing.keys()].join(", ")}: npm ci would refuse it; run node scripts/complete-lock.ts\n`,
  );
  process.exitCode = 1;
} else if (missing.size > 0) {
  const packages = Object.entries({ ...lock.packages, ...Object.fromEntries(missing) });
  lock.packages = Object.fromEntries(packages.toSorted(([a], [b]) => (a < b ? -1 : 1)));
  await writeFile(path, `${JSON.stringify(lock, null, 2)}\n`);
  process.stdout.write(`${missing.size} packages of other platforms added\n`);
}
