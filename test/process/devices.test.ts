import assert from "node:assert/strict";
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findOrtLibrary, packagedOrt } from "../../src/lib/ort-files.ts";
import { childrenOf, gone, startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const SICK_WORKER = join(import.meta.dirname, "..", "fixtures", "sick-worker.ts");
const PROVIDER = ["libonnxruntime.so.1", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so", "libcudnn.so.9"];

/** A driver that shows GPUs, in front of the PATH, and onnxruntime's GPU libraries of which none can be loaded. */
describe("a host with GPUs that do not work", () => {
  let system: TestSystem;
  let env: Record<string, string>;
  /** A folder with onnxruntime and without its CUDA provider. */
  let bare: string;

  before(async () => {
    system = await startSystem({ DRYAPI_DEVICE: "auto", DRYAPI_MODELS: "fake" });
    const [bin, libraries] = [join(system.dir, "bin"), join(system.dir, "libraries")];
    await install(bin, "nvidia-smi", `printf '0, GPU-a, NVIDIA Sham, 24576, 580.65.06\\n1, GPU-b, NVIDIA Sham, 24576, 580.65.06\\n'`);
    await install(bin, "ldd", "echo ' libcublasLt.so.13 => /nowhere (0x0)'");
    await mkdir(libraries);
    for (const name of PROVIDER) await writeFile(join(libraries, name), "");
    bare = join(system.dir, "bare");
    await mkdir(bare);
    await symlink(findOrtLibrary(packagedOrt().dir) ?? "", join(bare, "libonnxruntime.so.1"));
    env = { PATH: `${bin}:${system.env["PATH"]}`, DRYAPI_ORT_DIR: libraries };
  });
  after(() => system[Symbol.asyncDispose]());

  async function install(dir: string, name: string, script: string): Promise<void> {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, name), `#!/bin/sh\n${script}\n`);
    await chmod(join(dir, name), 0o755);
  }

  async function refuses(more: Readonly<Record<string, string>>, ...messages: readonly RegExp[]): Promise<void> {
    const { process: child } = system.spawnWorker({ ...env, ...more });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk: Buffer | string) => (text += String(chunk)));
    const code = await new Promise((resolve) => child.once("close", resolve));
    assert.equal(code, 3, text);
    for (const message of messages) assert.match(text, message);
    assert.doesNotMatch(text, /"msg":"worker ready"/);
  }

  test("a GPU that is named and not there: exit 3, with those that are there", async () => {
    await refuses({ DRYAPI_DEVICES: "7" }, /DRYAPI_DEVICES=7 asks for GPU 7, which is not here\. Here: 0 \(NVIDIA Sham, GPU-a\), 1 \(/);
    await refuses({ DRYAPI_DEVICES: "0,7" }, /DRYAPI_DEVICES=0,7 asks for GPU 7/);
  });

  test("GPUs that are named, with auto and no CUDA provider: exit 3 and never the cpu", async () => {
    await refuses({ DRYAPI_DEVICES: "0", DRYAPI_ORT_DIR: bare }, /DRYAPI_DEVICES=0 asks for GPUs, but .*fetch-cuda/);
  });

  test("auto with a GPU and no CUDA provider: the cpu, with a warning that says what to do", async () => {
    const worker = await system.startWorker({ ...env, DRYAPI_ORT_DIR: bare });
    const { level, note } = await worker.line(({ msg }) => msg === "devices");
    assert.equal(level, "warn");
    assert.match(String(note), /device auto is cpu although there is a GPU: .*fetch-cuda/);
    await worker.stop();
  });

  test("a DRYAPI_ORT_DIR without onnxruntime: exit 2, with what was looked for", async () => {
    const { process: child } = system.spawnWorker({ ...env, DRYAPI_ORT_DIR: join(system.dir, "empty") });
    let text = "";
    child.stderr?.on("data", (chunk: Buffer | string) => (text += String(chunk)));
    assert.equal(await new Promise((resolve) => child.once("close", resolve)), 2, text);
    assert.match(text, /DRYAPI_ORT_DIR is .*empty, which holds no onnxruntime \(looked for libonnxruntime\.so\.1, /);
  });

  test("a DRYAPI_RUNTIME that is none: exit 2, with the choices", async () => {
    const { process: child } = system.spawnWorker({ ...env, DRYAPI_RUNTIME: "wasm" });
    let text = "";
    child.stderr?.on("data", (chunk: Buffer | string) => (text += String(chunk)));
    assert.equal(await new Promise((resolve) => child.once("close", resolve)), 2, text);
    assert.match(text, /DRYAPI_RUNTIME.*one of auto, c, node/);
  });

  test("GPUs on which no operation runs: exit 3 before anything is claimed, with what is wrong with each", async () => {
    const id = await system.submit({ model: "fake" });
    const words = (device: string): string =>
      `  ${device}: device ${device} cannot be used: .*/libonnxruntime\\.so\\.1: .*file too short\\n`;
    await refuses({}, new RegExp(`no device works:\\n${words("cuda:0")}${words("cuda:1")}`));
    assert.equal(await system.state("fake", id), "waiting");
  });
});

describe("a device that fails", () => {
  let system: TestSystem;
  let sick: string;

  before(async () => {
    system = await startSystem({ DRYAPI_MODELS: "fake" }, SICK_WORKER);
    sick = join(system.env["TMPDIR"] ?? "", "sick");
  });
  after(() => system[Symbol.asyncDispose]());

  interface Ready {
    readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail: string }>>;
  }

  async function devicesOf(worker: WorkerProcess): Promise<{ readonly status: number; readonly detail: string }> {
    const answer = await fetch(`${worker.admin}/readyz`);
    return { status: answer.status, detail: ((await answer.json()) as Ready).checks["devices"]?.detail ?? "" };
  }

  test("at the start, the cpu too: exit 3", async () => {
    await writeFile(sick, "");
    const { process: child, lines } = system.spawnWorker();
    let stderr = "";
    child.stderr?.on("data", (chunk: string) => (stderr += chunk));
    assert.equal(await new Promise((resolve) => child.once("close", resolve)), 3, JSON.stringify(lines));
    assert.match(stderr, /no device works:\n  cpu:0: CUDA failure 999: unknown error/);
    await rm(sick);
  });

  test("that answers nothing: SIGTERM ends the start, and blames no device", async () => {
    const hung = join(system.env["TMPDIR"] ?? "", "hung");
    await writeFile(hung, "");
    const worker = system.spawnWorker();
    const [proof] = await system.until("the proof to run", async () => {
      const children = await childrenOf(worker.pid);
      return children.length > 0 ? children : undefined;
    });
    assert.equal(await worker.stop(), 0, JSON.stringify(worker.lines));
    await gone(proof ?? 0);
    assert.deepEqual(
      worker.lines.filter(({ level, msg }) => level === "error" || msg === "worker ready"),
      [],
    );
    await rm(hung);
  });

  test("later: out of service, not ready, nothing claimed, and told what happened and not that jobs failed", async () => {
    const worker = await system.startWorker();
    assert.deepEqual(await devicesOf(worker), { status: 200, detail: "cpu:0" });
    assert.deepEqual(await childrenOf(worker.pid), [], "the process of the proof has ended");
    await writeFile(sick, "");
    const id = await system.submit({ model: "fake", params: { steps: 1 } });
    const line = await worker.line(({ msg }) => msg.startsWith("device taken out of service"));
    const what = "the runner of model fake could not use it: DEVICE_UNAVAILABLE: CUDA failure 999: unknown error";
    assert.equal(line.msg, `device taken out of service: ${what}`);
    assert.deepEqual([line.level, line["device"], line["times"]], ["error", "cpu:0", 1]);
    const { status, detail } = await devicesOf(worker);
    assert.equal(status, 503);
    assert.equal(detail, `cpu:0 is out of service, proved anew at ${String(line["provedAnewAt"])}: ${what}`);
    const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
    assert.match(metrics, /^dryapi_device_quarantined\{device="cpu:0"\} 1$/m);
    assert.equal(await system.state("fake", id), "waiting", "it was never claimed");
    await rm(sick);
    await worker.stop();
  });
});
