import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

interface Pattern {
  readonly again: boolean;
  readonly parts: readonly string[];
  readonly whole: RegExp;
}

/** What a builder would see of a folder: all files that .dockerignore leaves. */
export interface BuildContext {
  readonly dir: string;
  /** Paths of files and links relative to `dir`, that are `path` or lie in it; empty when there is no such thing for the builder. */
  filesOf(path: string): readonly string[];
}

/** Reads `<Dockerfile>.dockerignore`, else `.dockerignore`: patterns of Go's filepath.Match with `**`, `!` takes back, the last that matches counts. */
export async function readContext(dir: string, dockerfile: string): Promise<BuildContext> {
  const own = join(dir, `${basename(dockerfile)}.dockerignore`);
  const patterns = parseIgnore(await readFile(existsSync(own) ? own : join(dir, ".dockerignore"), "utf8"));
  const files = await listFiles(dir, "", patterns);
  return {
    dir,
    filesOf: (path) => {
      const wanted = path.replace(/^(\.?\/)+/, "").replace(/\/+$/, "");
      return wanted === "" || wanted === "." ? files : files.filter((file) => file === wanted || file.startsWith(`${wanted}/`));
    },
  };
}

function parseIgnore(text: string): readonly Pattern[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const again = line.startsWith("!");
      const path = (again ? line.slice(1) : line).replace(/^\/+/, "").replace(/\/+$/, "");
      return { again, parts: path.split("/"), whole: regexOf(path) };
    });
}

/** Unlike a shell's, `*` matches names that begin with a dot. */
function regexOf(glob: string): RegExp {
  const source = glob.replaceAll(/\*\*\/|\*\*|\*|\?|[.+^${}()|[\]\\]/g, (found) => {
    if (found === "**/") return "(?:.*/)?";
    if (found === "**") return ".*";
    if (found === "*") return "[^/]*";
    if (found === "?") return "[^/]";
    if (found === "." || found === "+") return `\\${found}`;
    throw new Error(`.dockerignore: ${glob}: ${found} is not understood`);
  });
  return new RegExp(`^${source}$`);
}

/** A pattern that matches a folder counts for all that is in it. */
function isIgnored(path: string, patterns: readonly Pattern[]): boolean {
  let ignored = false;
  for (const { again, whole } of patterns) if (matchesPathOrParent(path, whole)) ignored = !again;
  return ignored;
}

function matchesPathOrParent(path: string, whole: RegExp): boolean {
  for (let at = path; at !== "."; at = dirname(at)) if (whole.test(at)) return true;
  return false;
}

async function listFiles(dir: string, under: string, patterns: readonly Pattern[]): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(join(dir, under), { withFileTypes: true })) {
    const path = under === "" ? entry.name : `${under}/${entry.name}`;
    const ignored = isIgnored(path, patterns);
    if (!entry.isDirectory()) {
      if (!ignored) found.push(path);
    } else if (!ignored || patterns.some(({ again, parts }) => again && mayLieIn(parts, path))) {
      found.push(...(await listFiles(dir, path, patterns)));
    }
  }
  return found.toSorted();
}

/** Whether a pattern may match something inside of a folder. */
function mayLieIn(parts: readonly string[], folder: string): boolean {
  return parts.includes("**") || folder.split("/").every((name, i) => parts[i] !== undefined && regexOf(parts[i]).test(name));
}
