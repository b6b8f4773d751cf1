/**
 * Runs the models' golden tests with other versions of onnxruntime than the npm package's, from PyPI's wheels as their users would take them
 * (DRYAPI_ORT_DIR), and shows that a version which lacks functions of the C API is refused by name. The wheels are kept in .cache.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { MIN_ORT_VERSION, packagedOrt } from "../src/lib/ort-files.ts";
import type { RuntimeFacts } from "../src/protocol/ipc.ts";

const exec = promisify(execFile);
const ROOT = join(import.meta.dirname, "..");
const CACHE = join(ROOT, ".cache", "onnxruntime");
const TOO_OLD = "1.23.2";
const VERSIONS: readonly string[] = ["1.24.1", "1.31.0", "1.32.0"];
const GOLDENS: readonly string[] = ["flux-golden", "ltx-golden", "musicgen", "speech", "whisper-golden"];
const LIMIT_MS = 20 * 60_000;

const PROBE = `import { proveDevice, readRuntime } from "${ROOT}/src/runner/load-model.ts";
try {
  await proveDevice({ kind: "cpu", index: 0, threads: 1 });
  console.log(JSON.stringify(await readRuntime()));
} catch (error) {
  console.log(JSON.stringify({ refused: error.message }));
}`;

function environment(folder: string): NodeJS.ProcessEnv {
  return { ...process.env, ORT_DISABLE_TELEMETRY: "1", DRYAPI_RUNTIME: "c", DRYAPI_ORT_DIR: folder };
}

/** The folder of a wheel's libraries. */
async function unpacked(version: string): Promise<string> {
  const folder = join(CACHE, version);
  if (existsSync(folder)) return folder;
  await mkdir(CACHE, { recursive: true });
  const stage = await mkdtemp(join(CACHE, "stage-"));
  try {
    const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
    const platforms = ["2_28", "2_27"].flatMap((glibc) => ["--platform", `manylinux_${glibc}_${machine}`]);
    const only = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11", ...platforms];
    await exec("python3", ["-m", "pip", "download", "--quiet", ...only, "--dest", stage, `onnxruntime==${version}`]);
    const [wheel] = await readdir(stage);
    await exec("python3", ["-m", "zipfile", "-e", join(stage, wheel ?? ""), join(stage, "unpacked")]);
    await rename(join(stage, "unpacked", "onnxruntime", "capi"), folder);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
  return folder;
}

async function probe(folder: string): Promise<Partial<RuntimeFacts> & { readonly refused?: string }> {
  const { stdout } = await exec(process.execPath, ["--input-type=module-typescript", "-e", PROBE], { env: environment(folder) });
  return JSON.parse(stdout) as RuntimeFacts;
}

async function testFiles(): Promise<readonly string[]> {
  const conformance = (await readdir(join(ROOT, "test", "conformance"))).filter((name) => /^runtime.*\.test\.ts$/.test(name));
  return [
    ...conformance.map((name) => join("test", "conformance", name)),
    ...GOLDENS.map((name) => join("test", "integration", `${name}.test.ts`)),
  ];
}

async function runTests(folder: string, files: readonly string[]): Promise<number | null> {
  const args = ["--test", "--test-concurrency=1", "--test-timeout=600000", "--test-reporter=dot", ...files];
  const child = spawn(process.execPath, args, { cwd: ROOT, env: environment(folder), stdio: "inherit", timeout: LIMIT_MS });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", resolve);
  });
}

const failures: string[] = [];
const { refused } = await probe(await unpacked(TOO_OLD));
if (refused?.includes(`is onnxruntime ${TOO_OLD}, expected`) !== true)
  failures.push(`${TOO_OLD} was not refused by name: ${refused ?? "it was loaded"}`);
else console.log(`verify runtimes: ${TOO_OLD} is refused: ${refused}`);
const files = await testFiles();
for (const version of VERSIONS) {
  const folder = await unpacked(version);
  const facts = await probe(folder);
  if (facts.version !== version || facts.library?.startsWith(folder) !== true) {
    failures.push(`${version}: ${JSON.stringify(facts)} was loaded from ${folder}`);
    continue;
  }
  const code = await runTests(folder, files);
  if (code === 0) console.log(`\nverify runtimes: ${version}: ${files.length} test files pass`);
  else failures.push(`${version}: the tests ended with code ${code}`);
}
for (const failure of failures) console.error(`verify runtimes: ${failure}`);
if (failures.length > 0) process.exit(1);
console.log(`verify runtimes: ${VERSIONS.join(", ")} give the results of ${packagedOrt().version}; oldest allowed is ${MIN_ORT_VERSION}`);
