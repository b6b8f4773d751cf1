/**
 * Proves that the import boundaries of .oxlintrc.json are enforced: builds a small tree in which every folder imports every other one
 * and every package that has one owner, lints it with the same rules, and compares what is reported with ARCHITECTURE.md's directions.
 * A check that reads nothing reports nothing, so it fails here.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const BASE = ["lib", "protocol", "core"];
const MIDDLE = ["config", "telemetry", "queue", "state", "storage", "models", "net"];

/** folder -> folders that it may import, as ARCHITECTURE.md says it. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  nvidia: ["lib"],
  protocol: ["lib"],
  core: ["lib", "protocol"],
  ...Object.fromEntries(MIDDLE.map((folder) => [folder, BASE])),
  pipelines: BASE,
  runner: [...BASE, "nvidia", "pipelines"],
  requests: [...BASE, "queue", "state", "storage", "models"],
  worker: [...BASE, ...MIDDLE, "nvidia", "requests"],
  courier: [...BASE, ...MIDDLE, "requests"],
  gateway: [...BASE, ...MIDDLE, "requests"],
  cli: [...BASE, ...MIDDLE, "requests", "worker", "courier", "gateway"],
};

/** package -> folders that may import it. */
const OWNERS: Readonly<Record<string, readonly string[]>> = {
  bullmq: ["queue"],
  ioredis: ["queue", "state"],
  undici: ["net"],
  pino: ["telemetry"],
  "prom-client": ["telemetry"],
  commander: ["cli"],
  "@aws-sdk/client-s3": ["storage"],
  "onnxruntime-node": ["runner"],
  koffi: ["runner"],
  sharp: ["pipelines", "gateway"],
  fastify: ["gateway"],
  ws: ["gateway"],
  "@huggingface/tokenizers": ["pipelines"],
};
const FOLDERS = Object.keys(ALLOWED);

interface Report {
  readonly number_of_files: number;
  readonly diagnostics: readonly { readonly code: string; readonly filename: string }[];
}

async function lint(cwd: string): Promise<Report> {
  const { promise, resolve, reject } = Promise.withResolvers<Report>();
  execFile(join(ROOT, "node_modules/.bin/oxlint"), ["-f", "json", "src"], { cwd, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
    // It exits 1 when it found something, which is what it is run for.
    try {
      resolve(JSON.parse(stdout) as Report);
    } catch {
      reject(new Error(`oxlint said no JSON: ${stdout}${stderr}`, { cause: error }));
    }
  });
  return promise;
}

/** The real configuration, less everything that is not about boundaries. */
async function boundaryConfig(): Promise<object> {
  const lines = (await readFile(join(ROOT, ".oxlintrc.json"), "utf8")).split("\n").filter((line) => !line.trim().startsWith("//"));
  const config = JSON.parse(lines.join("\n")) as { jsPlugins: string[]; settings: object; rules: Record<string, unknown> };
  return {
    plugins: [],
    jsPlugins: config.jsPlugins,
    categories: {},
    settings: config.settings,
    rules: { "boundaries/dependencies": config.rules["boundaries/dependencies"], "boundaries/no-unknown-files": "error" },
  };
}

/** Writes the tree; returns the files that must be reported. */
async function writeTree(dir: string): Promise<Set<string>> {
  const forbidden = new Set<string>();
  const add = async (path: string, code: string, allowed: boolean): Promise<void> => {
    await writeFile(join(dir, path), code);
    if (!allowed) forbidden.add(path);
  };
  for (const folder of FOLDERS) {
    await mkdir(join(dir, "src", folder), { recursive: true });
    await writeFile(join(dir, "src", folder, "self.ts"), "export const self = 1;\n");
  }
  for (const from of FOLDERS) {
    for (const to of FOLDERS.filter((folder) => folder !== from)) {
      await add(
        `src/${from}/to-${to}.ts`,
        `import { self } from "../${to}/self.ts";\nexport { self };\n`,
        ALLOWED[from]?.includes(to) ?? false,
      );
      await add(`src/${from}/to-${to}.test.ts`, `import { self } from "../${to}/self.ts";\nexport { self };\n`, true);
    }
    for (const [name, owners] of Object.entries(OWNERS)) {
      await add(
        `src/${from}/package-${name.replaceAll("/", "-")}.ts`,
        `import * as it from "${name}";\nexport { it };\n`,
        owners.includes(from),
      );
    }
    await add(`src/${from}/node.ts`, 'import { readFile } from "node:fs/promises";\nexport { readFile };\n', from !== "core");
  }
  await add("src/cli.ts", 'import { self } from "./cli/self.ts";\nexport { self };\n', true);
  await mkdir(join(dir, "src/stray"));
  await add("src/stray/self.ts", "export const self = 1;\n", false);
  return forbidden;
}

async function main(): Promise<string[]> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-boundaries-"));
  try {
    await symlink(join(ROOT, "node_modules"), join(dir, "node_modules"));
    await writeFile(join(dir, ".oxlintrc.json"), JSON.stringify(await boundaryConfig()));
    const forbidden = await writeTree(dir);
    const report = await lint(dir);
    const reported = new Set(report.diagnostics.filter(({ code }) => code.startsWith("boundaries")).map(({ filename }) => filename));
    const problems = [
      ...[...forbidden].filter((file) => !reported.has(file)).map((file) => `not reported although forbidden: ${file}`),
      ...[...reported].filter((file) => !forbidden.has(file)).map((file) => `reported although allowed: ${file}`),
    ];
    const sources = (await readdir(join(ROOT, "src"), { recursive: true })).filter((file) => file.endsWith(".ts")).length;
    const read = (await lint(ROOT)).number_of_files;
    if (sources === 0 || read < sources) problems.push(`src has ${sources} modules and the lint read ${read} of them`);
    if (problems.length === 0) process.stdout.write(`${forbidden.size} forbidden imports reported, ${read} modules of src read\n`);
    return problems;
  } finally {
    await rm(dir, { recursive: true });
  }
}

const problems = await main();
for (const problem of problems.slice(0, 40)) process.stderr.write(`${problem}\n`);
if (problems.length > 0) process.exitCode = 1;
