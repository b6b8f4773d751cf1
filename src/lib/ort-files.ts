import { createReadStream, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

/** What onnxruntime's library is called in npm's package, in releases and in PyPI's wheels, which carry the version in the name. */
const NAMES: Readonly<Record<string, RegExp>> = {
  linux: /^libonnxruntime\.so(\.1(\.\d+\.\d+)?)?$/,
  darwin: /^libonnxruntime(\.1(\.\d+\.\d+)?)?\.dylib$/,
  win32: /^onnxruntime\.dll$/,
};
/** The name that the loader asks for: it wins over the others. */
const LOADER_NAMES: readonly string[] = ["libonnxruntime.so.1", "libonnxruntime.1.dylib", "onnxruntime.dll"];

/** The oldest whose C API has all that is called of it (runner/ort/api-table.ts). */
export const MIN_ORT_VERSION = "1.24.0";

/** What is looked for, for messages. */
export const ORT_NAMES = "libonnxruntime.so.1, libonnxruntime.so or libonnxruntime.so.1.<version>";

/** onnxruntime's library in a folder; null where there is none. Of several the one that the loader would take, else the newest. */
export function findOrtLibrary(dir: string): string | null {
  const pattern = NAMES[process.platform] ?? /^libonnxruntime\.so/;
  let names: readonly string[];
  try {
    names = readdirSync(dir).filter((name) => pattern.test(name));
  } catch {
    return null;
  }
  const name = names.find((each) => LOADER_NAMES.includes(each)) ?? names.toSorted(byVersion).at(-1);
  return name === undefined ? null : join(dir, name);
}

function byVersion(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/**
 * The version of an onnxruntime library, from the name of the symbol version that its build gives to all it exports (Linux). Nothing is
 * loaded: a file that is no library would take the process down. Null when the file carries none.
 */
export async function readOrtVersion(library: string): Promise<string | null> {
  return (await findText(library, /VERS_(1\.\d+\.\d+)\0/))?.[1] ?? null;
}

/**
 * Whether a provider's library belongs to onnxruntime of that version, which it carries as a text. One of another version crashes the
 * process that loads it.
 */
export async function providerIsOf(provider: string, version: string): Promise<boolean> {
  return (await findText(provider, new RegExp(`\\x00${version.replaceAll(".", "\\.")}\\x00`))) !== null;
}

/** Longer than what is looked for: a match may lie across two chunks. */
const OVERLAP = 64;

async function findText(path: string, pattern: RegExp): Promise<RegExpExecArray | null> {
  let tail = "";
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) {
      const text = tail + (chunk as Buffer).toString("latin1");
      const found = pattern.exec(text);
      if (found !== null) return found;
      tail = text.slice(-OVERLAP);
    }
  } catch {
    return null;
  }
  return null;
}

/** Negative when `a` is the older. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  for (let at = 0; at < 3; at += 1) {
    const difference = (left?.[at] ?? 0) - (right?.[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export interface PackagedOrt {
  /** Folder of the npm package's own library for this platform. */
  readonly dir: string;
  readonly version: string;
}

/** onnxruntime as the npm package brings it. @throws when onnxruntime-node is not installed at all */
export function packagedOrt(): PackagedOrt {
  const root = join(dirname(createRequire(import.meta.url).resolve("onnxruntime-node")), "..");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
  return { dir: join(root, "bin", "napi-v6", process.platform, process.arch), version };
}

/** Why onnxruntime-node's own API cannot use that library; null when it can. Its binding asks the loader for symbols of its own version. */
export async function whyNotForNode(library: string): Promise<string | null> {
  const { version } = packagedOrt();
  const found = await readOrtVersion(library);
  if (found !== version)
    return `${library} is onnxruntime ${found ?? "of no known version"}, and onnxruntime-node's own API needs exactly ${version}: use the C API (DRYAPI_RUNTIME=c), or leave DRYAPI_ORT_DIR out`;
  if (LOADER_NAMES.includes(basename(library))) return null;
  return `${library} has not the name that onnxruntime-node's own API asks the loader for: link it to libonnxruntime.so.1 in the same folder, or use the C API (DRYAPI_RUNTIME=c)`;
}
