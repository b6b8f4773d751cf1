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
  readonly library?: string;
  readonly provider?: string;
  /** The text that `dryapi fetch-cuda` leaves beside them. */
  readonly ortVersion?: string | null;
  readonly ldd?: string | null;
  readonly loaderCache?: string;
  readonly cores?: number;
}

const ALL_FILES = ["libonnxruntime.so.1", "libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so", "libcudnn.so.9"];

function probesOf({
  gpus = TWO_GPUS,
  files = ALL_FILES,
  library = "1.30.0",
  provider = library,
  ortVersion = library,
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
    findLibrary: (dir) => (present.has(`${dir}/libonnxruntime.so.1`) ? `${dir}/libonnxruntime.so.1` : null),
    versionOf: () => Promise.resolve(library),
    isOf: (_provider, version) => Promise.resolve(version === provider),
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

describe("auto beside a GPU that it cannot use", () => {
  it("is the CPU with a warning that says what to do", async () => {
    const notes: string[] = [];
    const options = {
      env,
      probes: probesOf({ files: ["libonnxruntime.so.1"] }),
      onNote: (note: string, level: string) => notes.push(`${level} ${note}`),
    };
    assert.equal((await detectDevices("auto", options))[0]?.kind, "cpu");
    assert.equal(notes.length, 1);
    assert.match(notes[0] ?? "", /^warn device auto is cpu although there is a GPU: .*run `dryapi fetch-cuda`.*or set DRYAPI_DEVICE=cpu/);
  });

  it("says what nvidia-smi says", async () => {
    const notes: string[] = [];
    const words = "nvidia-smi finds no GPU (it says: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver)";
    const nvidiaSmi: DeviceProbes["nvidiaSmi"] = async (_args, onFailure) => {
      onFailure?.(words);
      return null;
    };
    await detectDevices("auto", { env, probes: { ...probesOf({}), nvidiaSmi }, onNote: (note, level) => notes.push(`${level} ${note}`) });
    assert.ok(notes[0]?.startsWith(`info device auto is cpu, not cuda: ${words}: install the NVIDIA driver`), notes[0]);
  });
});

describe("GPUs that are named", () => {
  const named = (only: readonly number[], machine: Machine = {}, more: Record<string, string> = {}, setting: "auto" | "cuda" = "auto") =>
    detectDevices(setting, { env: { ...env, ...more }, probes: probesOf(machine), only });
  const refused = (work: Promise<unknown>, message: RegExp): Promise<void> =>
    assert.rejects(work, (error: AppError) => {
      assert.equal(error.code, "DEVICE_UNAVAILABLE");
      assert.match(error.message, message);
      return true;
    });

  it("are used, and share the host's cores", async () => {
    assert.deepEqual(
      (await named([1], { cores: 4 })).map(({ id, name, threads }) => [id, name, threads]),
      [["cuda:1", "NVIDIA B", 3]],
    );
  });

  it("are asked for: without any GPU, driver or library auto is no way out", async () => {
    await refused(named([0, 1], { gpus: null }), /DRYAPI_DEVICES=0,1 asks for GPUs, but nvidia-smi is missing/);
    await refused(named([0], { files: [] }), /DRYAPI_DEVICES=0 asks for GPUs, but .*run `dryapi fetch-cuda`/);
  });

  it("must all be there: the missing ones and those that exist are named", async () => {
    await refused(
      named([7, 0, 9]),
      /DRYAPI_DEVICES=7,0,9 asks for GPU 7 and 9, which is not here\. Here: 0 \(NVIDIA A, GPU-aaaa-1\), 1 \(NVIDIA B, GPU-bbbb-2\)\. .*dmesg/,
    );
    await refused(named([2], {}, {}, "cuda"), /asks for GPU 2/);
  });

  it("are numbered within CUDA_VISIBLE_DEVICES", async () => {
    assert.deepEqual(
      (await named([0], {}, { CUDA_VISIBLE_DEVICES: "GPU-bbbb" })).map(({ id, name }) => `${id} ${name}`),
      ["cuda:0 NVIDIA B"],
    );
    await refused(
      named([1], {}, { CUDA_VISIBLE_DEVICES: "1" }),
      /asks for GPU 1.*Here: 0 \(NVIDIA B.*counted as CUDA_VISIBLE_DEVICES=1 orders them/,
    );
  });

  it("one that the driver cannot read is lost: named when it is asked for, told when the others are used", async () => {
    const gpus = [...TWO_GPUS, ["2", "GPU-c", "NVIDIA C", "[GPU is lost]", "580.65.06"]];
    await refused(named([0, 2], { gpus }), /asks for GPU 2, .*nvidia-smi cannot read 1 of 3 GPUs: 2, GPU-c, NVIDIA C, \[GPU is lost\]/);
    const notes: string[] = [];
    const devices = await detectDevices("cuda", {
      env,
      probes: probesOf({ gpus }),
      onNote: (note, level) => notes.push(`${level} ${note}`),
    });
    assert.equal(devices.length, 2);
    assert.match(notes[0] ?? "", /^warn nvidia-smi cannot read 1 of 3 GPUs/);
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
    refused({ files: [] }, /looked in \/npm\/ort; DRYAPI_ORT_DIR=\/opt\/cuda-ort holds no onnxruntime/));

  it("names each CUDA library and its version", () =>
    refused(
      { ldd: LDD.replace("/opt/cuda-ort/libcublasLt.so.13 (0x00007fc098600000)", "not found") },
      /libcublasLt\.so\.13 not found: install the CUDA 13 runtime/,
    ));

  it("names cuDNN, which the loader would miss only at the first convolution", () =>
    refused({ files: ALL_FILES.slice(0, 3) }, /libcudnn\.so\.9 not found: install cuDNN 9/));

  it("names a provider of another version than the library beside it", async () => {
    const names = /providers_cuda\.so is of 1\.29\.1, .*\/libonnxruntime\.so\.1 is onnxruntime 1\.32\.0, and the two must be equal/;
    await refused({ library: "1.32.0", ortVersion: "1.29.1" }, names);
    await refused({ library: "1.32.0", ortVersion: null, provider: "1.31.0" }, /is of another version, .* is onnxruntime 1\.32\.0/);
  });

  it("names a version that is too old", () => refused({ library: "1.23.2" }, /holds onnxruntime 1\.23\.2, expected 1\.24\.0 or later/));

  it("names a version that onnxruntime-node's own API cannot use", () =>
    refused({ library: "1.32.0" }, /holds onnxruntime 1\.32\.0, and DRYAPI_RUNTIME=node needs exactly the npm package's 1\.30\.0/, {
      DRYAPI_RUNTIME: "node",
    }));

  it("names a driver that is too old for the provider's CUDA", () =>
    refused(
      { gpus: [["0", "GPU-a", "NVIDIA A", "24576", "550.54.15"]] },
      /CUDA 13, which needs NVIDIA driver 580 or newer; installed is 550/,
    ));

  it("names the variable that hides all GPUs", () =>
    refused({}, /CUDA_VISIBLE_DEVICES=-1 leaves none of the 2 GPUs/, { CUDA_VISIBLE_DEVICES: "-1" }));
});

describe("a GPU", () => {
  it("runs with another version than npm's when library and provider are of one", async () => {
    assert.equal((await detect("cuda", { library: "1.32.0" })).length, 2);
    assert.equal((await detect("cuda", { library: "1.32.0", ortVersion: null })).length, 2);
  });

  it("is numbered as CUDA_VISIBLE_DEVICES orders it, by number or UUID, up to the first wrong entry", async () => {
    const names = async (visible: string) =>
      (await detect("cuda", {}, { CUDA_VISIBLE_DEVICES: visible })).map(({ id, name }) => `${id} ${name}`);
    assert.deepEqual(await names("1,0"), ["cuda:0 NVIDIA B", "cuda:1 NVIDIA A"]);
    assert.deepEqual(await names("GPU-bbbb"), ["cuda:0 NVIDIA B"]);
    assert.deepEqual(await names("1,7,0"), ["cuda:0 NVIDIA B"]);
    assert.deepEqual(await names("1,1,0"), ["cuda:0 NVIDIA B"]);
  });

  it("that CUDA_VISIBLE_DEVICES names in vain is told", async () => {
    const notes: string[] = [];
    const options = {
      env: { ...env, CUDA_VISIBLE_DEVICES: "1,MIG-7,0" },
      probes: probesOf({}),
      onNote: (note: string) => notes.push(note),
    };
    await detectDevices("cuda", options);
    assert.deepEqual(notes, ['entry "MIG-7" of CUDA_VISIBLE_DEVICES=1,MIG-7,0 names no GPU here, and CUDA sees none after it']);
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
