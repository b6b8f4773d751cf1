import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AppError } from "../../protocol/error.ts";
import { detectDevices, readDeviceUsage, type DeviceProbes } from "./devices.ts";

const MIB = 1024 * 1024;
const DIR = "/opt/cuda-ort";
const TWO_GPUS = [
  ["0", "GPU-aaaa-1", "NVIDIA A", "24576", "580.65.06"],
  ["1", "GPU-bbbb-2", "NVIDIA B", "81920", "580.65.06"],
];
const LDD = `
	libcublasLt.so.13 => /opt/cuda-ort/libcublasLt.so.13 (0x00007fc098600000)
	libcudart.so.13 => /usr/local/cuda-13.0/lib/libcudart.so.13 (0x00007fc08dc00000)
	libonnxruntime_providers_shared.so => not found
	libcuda.so.1 => /usr/lib/libcuda.so.1 (0x00007fc08dc00000)
`;

interface Machine {
  readonly gpus?: readonly (readonly string[])[] | null;
  readonly files?: readonly string[];
  readonly ortVersion?: string | null;
  readonly ldd?: string | null;
  readonly loaderCache?: string;
  readonly cores?: number;
}

const ALL_FILES = ["libonnxruntime.so.1", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so", "libcudnn.so.9"];

function probesOf({
  gpus = TWO_GPUS,
  files = ALL_FILES,
  ortVersion = "1.30.0",
  ldd = LDD,
  loaderCache = "",
  cores = 9,
}: Machine): DeviceProbes {
  const present = new Set(files.map((name) => `${DIR}/${name}`));
  return {
    nvidiaSmi: () => Promise.resolve(gpus),
    exists: (path) => Promise.resolve(present.has(path)),
    readText: () => Promise.resolve(ortVersion),
    ldd: () => Promise.resolve(ldd),
    loaderCache: () => Promise.resolve(loaderCache),
    bundled: { dir: "/npm/ort", version: "1.30.0" },
    cores,
    memoryBytes: 16 * 1024 * MIB,
  };
}

const env = { DRYAPI_ORT_DIR: DIR };
const detect = (setting: "auto" | "cuda" | "webgpu" | "cpu", machine: Machine, more: Record<string, string> = {}) =>
  detectDevices(setting, { env: { ...env, ...more }, probes: probesOf(machine) });

describe("auto", () => {
  it("takes every GPU where driver, provider and libraries are there", async () => {
    const devices = await detect("auto", {});
    assert.deepEqual(
      devices.map(({ id, index, name, memoryBytes, threads }) => [id, index, name, memoryBytes, threads]),
      [
        ["cuda:0", 0, "NVIDIA A", 24576 * MIB, 4],
        ["cuda:1", 1, "NVIDIA B", 81920 * MIB, 4],
      ],
    );
  });

  it("is the CPU without a driver, leaves a core to the daemon, and says why", async () => {
    const notes: string[] = [];
    const devices = await detectDevices("auto", { env, probes: probesOf({ gpus: null, cores: 2 }), onNote: (note) => notes.push(note) });
    assert.deepEqual(devices, [
      { id: "cpu:0", kind: "cpu", index: 0, threads: 1, name: "CPU, 2 cores", memoryBytes: 16 * 1024 * MIB, uuid: null },
    ]);
    assert.match(notes[0] ?? "", /auto is cpu.*NVIDIA driver/);
  });

  it("never is webgpu", async () => {
    assert.equal((await detect("auto", { gpus: null }))[0]?.kind, "cpu");
    assert.equal((await detect("webgpu", { gpus: null }))[0]?.id, "webgpu:0");
  });
});

describe("asking for cuda without it", () => {
  const refused = async (machine: Machine, message: RegExp, more: Record<string, string> = {}): Promise<void> => {
    await assert.rejects(detect("cuda", machine, more), (error: AppError) => {
      assert.equal(error.code, "DEVICE_UNAVAILABLE");
      assert.match(error.message, message);
      return true;
    });
  };

  it("names the driver when nvidia-smi finds nothing", () => refused({ gpus: [] }, /install the NVIDIA driver/));

  it("names the provider's files and the folder that was looked in", () =>
    refused(
      { files: ["libonnxruntime.so.1"] },
      /providers_shared\.so, libonnxruntime_providers_cuda\.so not found: run `dryapi fetch-cuda`.*\/opt\/cuda-ort/,
    ));

  it("looks beside the package's own library when the folder has none", () =>
    refused({ files: [] }, /looked in \/npm\/ort; DRYAPI_ORT_DIR=\/opt\/cuda-ort holds no libonnxruntime\.so\.1/));

  it("names each CUDA library and its version", () =>
    refused(
      { ldd: LDD.replace("/opt/cuda-ort/libcublasLt.so.13 (0x00007fc098600000)", "not found") },
      /libcublasLt\.so\.13 not found: install the CUDA 13 runtime/,
    ));

  it("names cuDNN, which the loader would miss only at the first convolution", () =>
    refused({ files: ALL_FILES.slice(0, 3) }, /libcudnn\.so\.9 not found: install cuDNN 9/));

  it("names a provider of another version", () =>
    refused({ ortVersion: "1.29.1" }, /holds onnxruntime 1\.29\.1, the npm package is 1\.30\.0/));

  it("names a driver that is too old for the provider's CUDA", () =>
    refused(
      { gpus: [["0", "GPU-a", "NVIDIA A", "24576", "550.54.15"]] },
      /CUDA 13, which needs NVIDIA driver 580 or newer; installed is 550/,
    ));

  it("names the variable that hides all GPUs", () =>
    refused({}, /CUDA_VISIBLE_DEVICES=-1 leaves none of the 2 GPUs/, { CUDA_VISIBLE_DEVICES: "-1" }));
});

describe("a GPU", () => {
  it("is numbered as CUDA_VISIBLE_DEVICES orders it, by number or UUID, up to the first wrong entry", async () => {
    const names = async (visible: string) =>
      (await detect("cuda", {}, { CUDA_VISIBLE_DEVICES: visible })).map(({ id, name }) => `${id} ${name}`);
    assert.deepEqual(await names("1,0"), ["cuda:0 NVIDIA B", "cuda:1 NVIDIA A"]);
    assert.deepEqual(await names("GPU-bbbb"), ["cuda:0 NVIDIA B"]);
    assert.deepEqual(await names("1,7,0"), ["cuda:0 NVIDIA B"]);
  });

  it("finds cuDNN in the loader's cache as well", async () => {
    const loaderCache = "\tlibcudnn.so.9 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcudnn.so.9\n";
    assert.equal((await detect("cuda", { files: ALL_FILES.slice(0, 3), loaderCache })).length, 2);
  });

  it("tells its use by UUID; a CPU tells none", async () => {
    const asked: string[] = [];
    const query = (args: readonly string[]) => {
      asked.push(...args);
      return Promise.resolve([["1024", "23552"]]);
    };
    assert.deepEqual(await readDeviceUsage({ uuid: "GPU-a" }, query), { usedBytes: 1024 * MIB, freeBytes: 23552 * MIB });
    assert.equal(asked[0], "--id=GPU-a");
    assert.equal(await readDeviceUsage({ uuid: null }, query), null);
    assert.equal(await readDeviceUsage({ uuid: "GPU-a" }, () => Promise.resolve([["[N/A]", "[N/A]"]])), null);
  });
});

describe("this machine", () => {
  it("has a CPU with memory, and cuda with devices or a reason", async () => {
    const [cpu] = await detectDevices("cpu");
    assert.ok((cpu?.memoryBytes ?? 0) > 64 * MIB && (cpu?.threads ?? 0) >= 1);
    const outcome = await detectDevices("cuda").then(
      (devices) => devices.length,
      (error: AppError) => error.message,
    );
    assert.ok(typeof outcome === "number" ? outcome > 0 : outcome.startsWith("device cuda was asked for, but "), String(outcome));
  });
});
