import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test, type TestContext } from "node:test";

const ROOT = join(import.meta.dirname, "..", "..");
const PINS = join(ROOT, "scripts", "cuda-requirements.txt");

/** The lines of each section. */
async function sections(): Promise<ReadonlyMap<string, readonly string[]>> {
  const found = new Map<string, string[]>();
  let current: string[] | undefined;
  for (const line of (await readFile(PINS, "utf8")).split("\n")) {
    const [, name] = /^# \[([\w-]+)\]/.exec(line) ?? [];
    if (name !== undefined) found.set(name, (current = []));
    else if (line !== "" && !line.startsWith("#")) {
      assert.ok(current, `${line} belongs to no section`);
      current.push(line);
    }
  }
  return found;
}

async function installedVersion(): Promise<string> {
  const { version } = JSON.parse(await readFile(join(ROOT, "node_modules/onnxruntime-node/package.json"), "utf8")) as { version: string };
  return version;
}

test("what fetch-cuda fetches is pinned: exact versions, each with a sha256, the provider's equal to onnxruntime-node's", async () => {
  const pins = await sections();
  assert.deepEqual([...pins.keys()], ["provider", "cuda-13", "cuda-12"]);
  for (const [name, lines] of pins) {
    assert.ok(lines.length > 0, name);
    for (const line of lines) assert.match(line, /^[a-z0-9-]+==\d+(\.\d+)+ --hash=sha256:[0-9a-f]{64}$/);
  }
  const { dependencies } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { dependencies: Record<string, string> };
  const version = await installedVersion();
  assert.equal(dependencies["onnxruntime-node"], version);
  assert.ok(pins.get("provider")?.[0]?.startsWith(`onnxruntime-gpu==${version} `), pins.get("provider")?.join("\n"));
  // What the provider loads (ldd), what cuDNN and cuFFT need beside it, and cuDNN itself.
  const parts = ["cublas", "cuda-nvrtc", "cuda-runtime", "cudnn", "cufft", "curand", "nvjitlink"];
  for (const major of ["13", "12"]) {
    const names = pins.get(`cuda-${major}`)?.map((line) =>
      line
        .replace(/==.*/, "")
        .replace(/^nvidia-/, "")
        .replace(/-cu\d+$/, ""),
    );
    assert.deepEqual(names, parts);
  }
});

test("the pins of CUDA 13 are of the release that the image's base has", async () => {
  const dockerfile = await readFile(join(ROOT, "Dockerfile.cuda"), "utf8");
  const [, base] = /^ARG CUDA_IMAGE=nvidia\/cuda:([\d.]+)-cudnn-/m.exec(dockerfile) ?? [];
  const [, pinned] = /^# \[cuda-13\] cuda-toolkit ([\d.]+)$/m.exec(await readFile(PINS, "utf8")) ?? [];
  assert.ok(base);
  assert.equal(pinned, base);
});

/** An installed package: dryapi-worker in node_modules, onnxruntime-node beside it or in its own. */
async function installed(t: TestContext, where: "beside" | "within"): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-cuda-"));
  t.after(() => rm(dir, { recursive: true }));
  const own = join(dir, "node_modules", "dryapi-worker");
  await mkdir(join(own, "scripts"), { recursive: true });
  for (const name of ["fetch-cuda.sh", "cuda-requirements.txt"]) await cp(join(ROOT, "scripts", name), join(own, "scripts", name));
  const modules = where === "beside" ? join(dir, "node_modules") : join(own, "node_modules");
  await mkdir(modules, { recursive: true });
  await symlink(join(ROOT, "node_modules/onnxruntime-node"), join(modules, "onnxruntime-node"));
  return own;
}

/** Programs that fetch-cuda.sh asks, in their place: ldd names the CUDA version as it does for the real provider. */
async function withLdd(t: TestContext): Promise<string> {
  const bin = await mkdtemp(join(tmpdir(), "dryapi-bin-"));
  t.after(() => rm(bin, { recursive: true }));
  await writeFile(join(bin, "ldd"), '#!/bin/sh\necho "libcublasLt.so.13 => not found"\n', { mode: 0o755 });
  return bin;
}

/** The suite's own Python has pip wherever the tests run. */
function withPip(): Readonly<Record<string, string>> {
  const python = join(ROOT, ".cache/python-clients/bin");
  assert.ok(existsSync(python), `${python} is missing: run scripts/install-test-deps.sh`);
  return { PATH: `${python}${delimiter}${process.env["PATH"]}` };
}

function fetchCuda(own: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<{ code: number; said: string }> {
  return new Promise((resolve) => {
    execFile("bash", [join(own, "scripts/fetch-cuda.sh"), ...args], { env: { ...process.env, ...env } }, (error, _stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), said: stderr }),
    );
  });
}

for (const where of ["beside", "within"] as const)
  test(`fetch-cuda of an installed package finds onnxruntime-node ${where} it, and fills the folder that its worker looks into`, async (t) => {
    const own = await installed(t, where);
    const bin = await withLdd(t);
    const provider = join(own, "given");
    await mkdir(provider);
    await writeFile(join(provider, "libonnxruntime_providers_shared.so"), "");
    await writeFile(join(provider, "libonnxruntime_providers_cuda.so"), `a provider of ${await installedVersion()}`);
    const { code, said } = await fetchCuda(own, ["--provider-only", "--from", provider], {
      PATH: `${bin}${delimiter}${process.env["PATH"]}`,
    });
    assert.equal(code, 0, said);
    // src/worker/runners/runner-env.ts looks there: three folders above its own, which is dist/worker/runners in a package.
    const into = join(own, "dist/worker/runners", "..", "..", "..", ".dryapi", "cuda");
    assert.deepEqual((await readdir(into)).toSorted(), [
      "ORT_VERSION",
      "libonnxruntime.so.1",
      "libonnxruntime_providers_cuda.so",
      "libonnxruntime_providers_shared.so",
    ]);
    assert.doesNotMatch(said, /DRYAPI_ORT_DIR/);
  });

test("a wheel with another hash is refused by pip, and nothing is left behind", async (t) => {
  const own = await installed(t, "beside");
  const version = await installedVersion();
  const wheels = join(own, "wheels");
  await mkdir(wheels);
  await writeFile(join(wheels, `onnxruntime_gpu-${version}-cp312-cp312-manylinux_2_28_x86_64.whl`), "not what was pinned");
  const env = { ...withPip(), PIP_NO_INDEX: "1", PIP_FIND_LINKS: wheels, PIP_CONFIG_FILE: "/dev/null" };
  const { code, said } = await fetchCuda(own, ["--provider-only"], env);
  assert.equal(code, 1);
  assert.match(said, /DO NOT MATCH THE HASHES/);
  assert.match(said, new RegExp(`fetch-cuda: pip could not fetch onnxruntime-gpu ${version.replaceAll(".", "\\.")} with the pinned hash`));
  assert.deepEqual(await readdir(join(own, ".dryapi")), []);
});

test("an onnxruntime-node of another version than the pin is named", async (t) => {
  const own = await installed(t, "within");
  const path = join(own, "scripts/cuda-requirements.txt");
  await writeFile(path, (await readFile(path, "utf8")).replace(/onnxruntime-gpu==\S+/, "onnxruntime-gpu==1.2.3"));
  const { code, said } = await fetchCuda(own, [], withPip());
  assert.equal(code, 1);
  assert.match(said, /pins onnxruntime-gpu==1\.2\.3, onnxruntime-node in .* is \d/);
});

test("without onnxruntime-node, or without the pins, one sentence says so", async (t) => {
  const own = await installed(t, "within");
  await rm(join(own, "scripts/cuda-requirements.txt"));
  assert.match((await fetchCuda(own, [], withPip())).said, /cuda-requirements\.txt is missing: the installation is incomplete/);
  await rm(join(own, "node_modules"), { recursive: true });
  const { code, said } = await fetchCuda(own, [], withPip());
  assert.equal(code, 1);
  assert.match(said, /onnxruntime-node is not installed: no node_modules from .* upwards has it/);
  assert.deepEqual(await readdir(join(own, ".dryapi")), []);
});
