import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { before, test } from "node:test";
import { FOREIGN_SETTINGS, SETTINGS } from "../../src/config/settings.ts";
import { METRIC_TABLE } from "../../src/telemetry/metric-table.ts";

const ROOT = join(import.meta.dirname, "..", "..");
/** Variables of tests, images and single programs, which are no settings. */
const OTHER_VARIABLES = new Set(["DRYAPI_ARTIFACTS", "DRYAPI_PARENT_PID"]);

interface Page {
  /** From the root. */
  readonly name: string;
  readonly text: string;
}

let pages: readonly Page[] = [];
before(async () => {
  const docs = (await readdir(join(ROOT, "docs"))).filter((name) => name.endsWith(".md")).map((name) => join("docs", name));
  const names = ["README.md", "ARCHITECTURE.md", ...docs];
  pages = await Promise.all(names.map(async (name) => ({ name, text: await readFile(join(ROOT, name), "utf8") })));
  assert.ok(pages.length > 10, "the documents were not found");
});

/** As forges make them of headings. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = text.replaceAll(/^```[\s\S]*?^```/gm, "").matchAll(/^#+ (.+)$/gm);
  return new Set(
    Array.from(headings, ([, title = ""]) =>
      title
        .trim()
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

function* found(pattern: RegExp, text: (page: Page) => string = (page) => page.text): Generator<readonly [page: Page, match: string]> {
  for (const page of pages) for (const [whole, first] of text(page).matchAll(pattern)) yield [page, first ?? whole];
}

test("every link leads to a file and a heading that are there", async () => {
  const wrong: string[] = [];
  for (const [page, target] of found(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const [path = "", anchor] = target.split("#");
    const file = path === "" ? page.name : relative(ROOT, join(ROOT, dirname(page.name), path));
    const isThere = existsSync(join(ROOT, file));
    const known = anchor === undefined || (isThere && anchorsOf(await readFile(join(ROOT, file), "utf8")).has(anchor));
    if (!isThere || !known) wrong.push(`${page.name}: ${target}`);
  }
  assert.deepEqual(wrong, []);
});

test("every page of the handbook can be reached from the README", () => {
  const byName = new Map(pages.map((page) => [page.name, page]));
  const reached = new Set<string>();
  const visit = (name: string): void => {
    const page = byName.get(name);
    if (page === undefined || reached.has(name)) return;
    reached.add(name);
    for (const [, target = ""] of page.text.matchAll(/\]\(([^)#\s]+)/g)) visit(relative(ROOT, join(ROOT, dirname(name), target)));
  };
  visit("README.md");
  assert.deepEqual(
    pages.map(({ name }) => name).filter((name) => !reached.has(name)),
    [],
  );
});

test("every variable that a page names is a setting", () => {
  const known = new Set<string>([...Object.values(SETTINGS).map(({ env }) => env), ...FOREIGN_SETTINGS.map(({ env }) => env)]);
  const wrong = [...found(/\bDRYAPI_[A-Z0-9_]*[A-Z0-9]\b/g)].filter(([, name]) => !known.has(name) && !OTHER_VARIABLES.has(name));
  assert.deepEqual(
    wrong.map(([page, name]) => `${page.name}: ${name}`),
    [],
  );
});

test("every metric that a page names exists", () => {
  const known = new Set<string>(Object.values(METRIC_TABLE).map(({ name }) => name));
  const isKnown = (name: string): boolean => known.has(name) || known.has(name.replace(/_(bucket|sum|count)$/, ""));
  const wrong = [...found(/`(dryapi_\w+)/g)].filter(([, name]) => !isKnown(name));
  assert.deepEqual(
    wrong.map(([page, name]) => `${page.name}: ${name}`),
    [],
  );
});

test("every file of the repository that a page names exists", () => {
  const wrong = [...found(/\b((?:scripts|deploy|test|models)\/[\w./-]*[\w])(?![\w*-])/g)].filter(([, path]) => {
    const full = join(ROOT, path);
    return ![full, `${full}.ts`, `${full}.test.ts`].some((each) => existsSync(each));
  });
  assert.deepEqual(
    wrong.map(([page, path]) => `${page.name}: ${path}`),
    [],
  );
});

test("every proof that a page names is one of scripts/verify", async () => {
  const names = /^names=\(([^)]*)\)/m.exec(await readFile(join(ROOT, "scripts", "verify"), "utf8"))?.[1]?.split(" ") ?? [];
  assert.ok(names.length > 5, "the names of scripts/verify were not found");
  const wrong = [...found(/scripts\/verify ([a-z][\w-]*)/g)].filter(([, name]) => !names.includes(name));
  assert.deepEqual(
    wrong.map(([page, name]) => `${page.name}: ${name}`),
    [],
  );
});
