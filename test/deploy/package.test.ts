import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { createProgram } from "../../src/cli/program.ts";
import { packCheckout, ROOT, type Packed } from "../support/packed.ts";

const exec = promisify(execFile);

/** All that belongs into the package. */
const BELONGS: readonly RegExp[] = [
  /^(?:package\.json|README\.md|ARCHITECTURE\.md|CHANGELOG\.md|LICENSE)$/,
  /^dist\/.*\.js$/,
  /^dist\/gateway\/(?:console|docs)\/assets\/[^/]+$/,
  /^models\//,
  /^docs\/[\w/-]+\.(?:md|png|svg|jpg|webp)$/,
  /^deploy\//,
  /^scripts\/(?:dryapi\.mjs|npm-preinstall\.mjs|fetch-cuda\.sh)$/,
  /^scripts\/cuda-[\w.-]+$/,
  /^scripts\/export\/[\w.-]+$/,
];

async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true });
  return entries.flatMap((entry) => (entry.isFile() ? [join(entry.parentPath, entry.name).slice(ROOT.length + 1)] : []));
}

/** The code without its comments: what may be printed. */
function withoutComments(code: string): string {
  return code.replaceAll(/\/\*[^]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, "");
}

/** Files whose texts reach people who have the package and no checkout. */
async function tellingFiles(): Promise<ReadonlyMap<string, string>> {
  const paths = [...(await filesBelow("src")).filter((path) => /(?<!\.test)\.ts$/.test(path)), ...(await filesBelow("deploy"))];
  return new Map(
    await Promise.all(
      paths.map(async (path): Promise<[string, string]> => {
        const text = await readFile(join(ROOT, path), "utf8");
        return [path, path.endsWith(".ts") ? withoutComments(text) : text];
      }),
    ),
  );
}

describe("the npm package", () => {
  let packed: Packed;
  /** The tarball's content, with the installed packages beside it. */
  let dir: string;
  const dryapi = (...args: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> =>
    exec(process.execPath, [join(dir, "package", "scripts", "dryapi.mjs"), ...args], {
      cwd: dir,
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: dir,
        DRYAPI_STATE_DIR: join(dir, "state"),
        DRYAPI_DEVICE: "cpu",
        DRYAPI_TEST_MODELS: "on",
      },
    });

  before(async () => {
    packed = await packCheckout();
    ({ dir } = packed);
    await exec("tar", ["-xzf", packed.tarball, "-C", dir]);
    await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"));
  });
  after(async () => packed[Symbol.asyncDispose]());

  test("has the whole program, its pages, models and documents", async () => {
    const sources = (await filesBelow("src")).filter((path) => !path.endsWith(".test.ts"));
    const built = sources.map((path) => path.replace(/^src/, "dist").replace(/\.ts$/, ".js"));
    const { stdout } = await exec("git", ["ls-files", "models", "docs", "deploy", "scripts/export"], { cwd: ROOT });
    const wanted = [...built, ...stdout.trim().split("\n"), "scripts/dryapi.mjs", "scripts/fetch-cuda.sh", "models/schema.json"];
    assert.deepEqual(
      wanted.filter((path) => !packed.files.includes(path)),
      [],
    );
  });

  test("has nothing else", () => {
    assert.deepEqual(
      packed.files.filter((path) => !BELONGS.some((pattern) => pattern.test(path)) || /\.test\.|\/\.|__pycache__/.test(path)),
      [],
    );
  });

  test("runs without the sources", async () => {
    const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
    assert.equal((await dryapi("--version")).stdout.trim(), version);
    assert.match((await dryapi("config")).stdout, /DRYAPI_STORE/);
    assert.match((await dryapi("models", "list")).stdout, /tiny-flux-schnell\s+available/);
    assert.match((await dryapi("fetch-cuda", "--help")).stdout, /--provider-only/);
    const doctor = JSON.parse((await dryapi("doctor", "--json")).stdout) as {
      readonly checks: readonly { readonly check: string; readonly level: string; readonly message: string }[];
    };
    const device = doctor.checks.find(({ check }) => check === "device cpu:0");
    assert.equal(device?.level, "ok", JSON.stringify(doctor));
    assert.match(device.message, /a runner with tiny-.* was ready/);
  });

  test("each script that a message or a deployed file names is in it", async () => {
    const named = [...(await tellingFiles())].flatMap(([path, text]) =>
      Array.from(text.matchAll(/\bscripts\/[\w./*-]*[\w]/g), ([script]) => ({ path, script })),
    );
    assert.notEqual(named.length, 0);
    assert.deepEqual(
      named.filter(({ script }) => !packed.files.includes(script)),
      [],
    );
  });

  test("each command that a message names exists, and none goes through npx", async () => {
    const terminal = { out: () => undefined, err: () => undefined, isLive: false, columns: 80 };
    const program = createProgram({ env: {}, terminal, setExitCode: () => undefined });
    const known = new Set(program.commands.map((command) => command.name()));
    const wrong: string[] = [];
    for (const [path, text] of await tellingFiles()) {
      for (const [, verb = ""] of text.matchAll(/`dryapi ([a-z-]+)(?![a-z-]|\\n)/g))
        if (!known.has(verb)) wrong.push(`${path}: dryapi ${verb}`);
      if (/npx (?:--no )?dryapi|npm (?:ci|exec|run)\b/.test(text)) wrong.push(`${path}: npx or npm`);
    }
    assert.deepEqual(wrong, []);
  });
});

test("without TypeScript npm pack fails and says what to do", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-prepack-"));
  t.after(() => rm(dir, { recursive: true }));
  await mkdir(join(dir, "scripts"));
  for (const path of ["package.json", ".npmrc", "scripts/prepack.mjs"]) await writeFile(join(dir, path), await readFile(join(ROOT, path)));
  await assert.rejects(exec("npm", ["pack"], { cwd: dir }), (thrown: { readonly code: number; readonly stderr: string }) => {
    assert.equal(thrown.code, 1);
    assert.match(thrown.stderr, /dist cannot be built: TypeScript is not installed in .*; run scripts\/setup/);
    return true;
  });
});
