import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import type { AppError } from "../protocol/error.ts";
import { chooseRuntime, runtimeOf } from "./open-backend.ts";

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
const dir = await mkdtemp(join(tmpdir(), "dryapi-open-backend-"));
after(() => rm(dir, { recursive: true, force: true }));

const failsWith = (code: string, words: RegExp) => (error: AppError) => error.code === code && words.test(error.message);

/** Runs a module's text in a process of its own, with the sources and packages below `root`. */
async function child(
  root: string,
  code: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const text = `import { openBackend } from "${root}/src/runner/open-backend.ts";
import { runtimeFacts } from "${root}/src/runner/runtime-facts.ts";
import { proveDevice } from "${root}/src/runner/load-model.ts";
const CPU = { kind: "cpu", index: 0, threads: 1 };
${code}`;
  return run(process.execPath, ["--expose-gc", "--input-type=module-typescript", "-e", text], {
    env: { PATH: process.env["PATH"] ?? "", ORT_DISABLE_TELEMETRY: "1", ...env },
  });
}

/** What `npm install --omit=optional` leaves, or a platform that koffi brings no binary for: all packages, and of koffi its scripts alone. */
async function withoutKoffiBinaries(): Promise<string> {
  const root = join(dir, "installation");
  const packages = join(root, "node_modules");
  await mkdir(packages, { recursive: true });
  for (const name of await readdir(join(ROOT, "node_modules"))) {
    if (name !== "koffi" && name !== "@koromix") await symlink(join(ROOT, "node_modules", name), join(packages, name));
  }
  await cp(join(ROOT, "node_modules", "koffi"), join(packages, "koffi"), { recursive: true, dereference: true });
  await cp(join(ROOT, "src"), join(root, "src"), { recursive: true });
  await cp(join(ROOT, "package.json"), join(root, "package.json"));
  return root;
}

const FACTS = `const providers = await proveDevice(CPU);
console.log(JSON.stringify({ providers, runtime: await runtimeFacts() }));`;

test("auto is the C API, and what it loads is what the library says of itself", async () => {
  const { stdout, stderr } = await child(ROOT, FACTS);
  const { providers, runtime } = JSON.parse(stdout) as { providers: object; runtime: Record<string, unknown> };
  assert.deepEqual(providers, { CPUExecutionProvider: 2 });
  assert.equal(runtime["api"], "c");
  assert.match(String(runtime["library"]), /onnxruntime-node.*onnxruntime/);
  assert.ok((runtime["available"] as readonly string[]).includes("CPUExecutionProvider"));
  assert.equal(stderr, "");
});

test("a loaded library stays when koffi's objects are collected", async () => {
  const code = `${FACTS}
const { setImmediate } = await import("node:timers/promises");
for (let turn = 0; turn < 5; turn += 1) { gc(); await setImmediate(); }
await proveDevice(CPU);
console.log("still there");`;
  assert.match((await child(ROOT, code)).stdout, /still there/);
});

test("where koffi cannot be loaded auto is onnxruntime-node's own API, said once, and `c` fails", async () => {
  const root = await withoutKoffiBinaries();
  const { stdout, stderr } = await child(root, FACTS);
  const { providers, runtime } = JSON.parse(stdout) as { providers: object; runtime: Record<string, unknown> };
  assert.deepEqual(providers, { CPUExecutionProvider: 2 });
  assert.equal(runtime["api"], "node");
  const why = /koffi, which calls onnxruntime's C API, cannot be loaded: .*; onnxruntime-node's own API is used instead: runs block/;
  assert.match(String(runtime["fallback"]), why);
  await child(root, `openBackend({ device: CPU }); openBackend({ device: CPU });`).then((said) => {
    assert.match(said.stderr, why);
    assert.equal(said.stderr.split("\n").length, 2, said.stderr);
  });
  assert.equal(stderr.match(/cannot be loaded/g)?.length, 1);
  const refused = `try { openBackend({ device: CPU }); } catch (error) { console.log(error.code, error.message); }`;
  const { stdout: said } = await child(root, refused, { DRYAPI_RUNTIME: "c" });
  assert.match(said, /^DEVICE_UNAVAILABLE DRYAPI_RUNTIME=c: koffi, .* cannot be loaded: .*; set auto or node/);
});

test("onnxruntime-node's own API refuses a library of another version before it is loaded", async () => {
  const other = join(dir, "other");
  await mkdir(other);
  await writeFile(join(other, "libonnxruntime.so.1"), "\0VERS_1.99.0\0");
  const { stdout } = await child(ROOT, `await proveDevice(CPU).catch((error) => console.log(error.code, error.message));`, {
    DRYAPI_RUNTIME: "node",
    DRYAPI_ORT_DIR: other,
  });
  assert.match(stdout, /^DEVICE_UNAVAILABLE .*is onnxruntime 1\.99\.0, and onnxruntime-node's own API needs exactly 1\./);
});

test("a setting is read as the daemon reads it, and a folder without a library is refused with what was looked for", () => {
  assert.deepEqual(["NODE", "c", "", undefined].map(runtimeOf), ["node", "c", "auto", "auto"]);
  assert.throws(
    () => chooseRuntime("c", join(dir, "none")),
    failsWith("DEVICE_UNAVAILABLE", /holds no onnxruntime: looked for libonnxruntime\.so\.1/),
  );
});
