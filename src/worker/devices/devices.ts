import { availableParallelism, totalmem } from "node:os";
import { mebibytes, nvidiaSmi, type NvidiaSmi } from "../../nvidia/nvidia-smi.ts";
import { AppError } from "../../protocol/error.ts";
import type { DeviceSpec } from "../../protocol/ipc.ts";
import type { DeviceKind } from "../../protocol/manifest.ts";
import { findCudaProvider, machineCudaProbes, type CudaProbes } from "./cuda-provider.ts";

export type DeviceSetting = "auto" | DeviceKind;

export interface DetectedDevice extends DeviceSpec {
  /** `<kind>:<index>`, e.g. `cuda:0`. */
  readonly id: string;
  readonly name: string;
  /** All memory of the device (of the machine or its cgroup for cpu). For webgpu, which cannot be asked, the first GPU's or the machine's. */
  readonly memoryBytes: number;
  /** The driver's name of the GPU; null for cpu and webgpu. */
  readonly uuid: string | null;
}

export interface DeviceProbes extends CudaProbes {
  readonly nvidiaSmi: NvidiaSmi;
  readonly cores: number;
  readonly memoryBytes: number;
}

export interface DetectOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told why `auto` did not take the GPU, and what else an operator should know. */
  readonly onNote?: (note: string) => void;
  readonly probes?: DeviceProbes;
}

interface Gpu {
  /** In PCI order, which runners count in too (CUDA_DEVICE_ORDER). */
  readonly index: number;
  readonly uuid: string;
  readonly name: string;
  readonly memoryBytes: number;
  readonly driver: string;
}

/** First driver branch that runs a CUDA major version (NVIDIA's compatibility table). */
const MIN_DRIVER: Readonly<Record<number, number>> = { 12: 525, 13: 580 };

/** CPU kernels of a GPU model are shape arithmetic and copies: more threads gain nothing. */
const MAX_GPU_HOST_THREADS = 4;

/**
 * The devices of this host for DRYAPI_DEVICE. `auto` takes cuda where driver, provider and all its libraries are there, else cpu; webgpu
 * only when asked for. What is found here from files is proved by each runner's probe before it takes work.
 * @throws AppError DEVICE_UNAVAILABLE when cuda is asked for and cannot be had: names what is missing and what to install
 */
export async function detectDevices(setting: DeviceSetting, options: DetectOptions = {}): Promise<readonly DetectedDevice[]> {
  const probes = options.probes ?? (await machineProbes());
  const env = options.env ?? process.env;
  if (setting === "cpu") return [cpuDevice(probes)];
  if (setting === "webgpu") return [await webgpuDevice(probes)];
  const found = await findCuda(env, probes);
  if (typeof found !== "string") return found;
  if (setting === "cuda") throw new AppError("DEVICE_UNAVAILABLE", `device cuda was asked for, but ${found}`);
  options.onNote?.(`device auto is cpu, not cuda: ${found}`);
  return [cpuDevice(probes)];
}

/** The usable GPUs, or why there are none. */
async function findCuda(
  env: Readonly<Record<string, string | undefined>>,
  probes: DeviceProbes,
): Promise<readonly DetectedDevice[] | string> {
  const gpus = await listGpus(probes.nvidiaSmi);
  if (gpus === null)
    return "nvidia-smi is missing or finds no GPU: install the NVIDIA driver (in a container: run it with the NVIDIA runtime)";
  const visible = visibleGpus(gpus, env["CUDA_VISIBLE_DEVICES"]);
  if (visible.length === 0) return `CUDA_VISIBLE_DEVICES=${env["CUDA_VISIBLE_DEVICES"]} leaves none of the ${gpus.length} GPUs`;
  const provider = await findCudaProvider(env, probes);
  if (!provider.ok) return provider.why;
  const driver = visible[0]?.driver ?? "";
  const needed = MIN_DRIVER[provider.cudaMajor] ?? 0;
  if (Number(driver.split(".")[0]) < needed) {
    return `the CUDA provider in ${provider.dir} is built for CUDA ${provider.cudaMajor}, which needs NVIDIA driver ${needed} or newer; installed is ${driver}`;
  }
  const threads = Math.max(1, Math.min(MAX_GPU_HOST_THREADS, Math.floor((probes.cores - 1) / visible.length)));
  // CUDA numbers the devices that it may see from 0 on.
  return visible.map(({ uuid, name, memoryBytes }, index) => ({
    id: `cuda:${index}`,
    kind: "cuda",
    index,
    threads,
    name,
    memoryBytes,
    uuid,
  }));
}

async function listGpus(query: NvidiaSmi): Promise<readonly Gpu[] | null> {
  const rows = await query(["--query-gpu=index,uuid,name,memory.total,driver_version"]);
  const gpus = (rows ?? []).flatMap(([index, uuid, name, memory, driver]) => {
    const memoryBytes = mebibytes(memory);
    if (uuid === undefined || name === undefined || driver === undefined || memoryBytes === null) return [];
    return [{ index: Number(index), uuid, name, memoryBytes, driver }];
  });
  return gpus.length === 0 ? null : gpus;
}

/** CUDA_VISIBLE_DEVICES as CUDA reads it: numbers or (beginnings of) UUIDs in the order wanted; the list ends at the first that is wrong. */
function visibleGpus(gpus: readonly Gpu[], setting: string | undefined): readonly Gpu[] {
  if (setting === undefined) return gpus;
  const visible: Gpu[] = [];
  for (const entry of setting.split(",").map((part) => part.trim())) {
    const gpu = gpus.find(({ index, uuid }) => (entry.startsWith("GPU-") ? uuid.startsWith(entry) : entry === String(index)));
    if (gpu === undefined) break;
    visible.push(gpu);
  }
  return visible;
}

function cpuDevice({ cores, memoryBytes }: DeviceProbes): DetectedDevice {
  return { id: "cpu:0", kind: "cpu", index: 0, threads: cpuThreads(cores), name: `CPU, ${cores} cores`, memoryBytes, uuid: null };
}

async function webgpuDevice({ nvidiaSmi: query, cores, memoryBytes }: DeviceProbes): Promise<DetectedDevice> {
  const gpu = (await listGpus(query))?.[0];
  const threads = Math.min(MAX_GPU_HOST_THREADS, cpuThreads(cores));
  return {
    id: "webgpu:0",
    kind: "webgpu",
    index: 0,
    threads,
    name: gpu?.name ?? "WebGPU adapter",
    memoryBytes: gpu?.memoryBytes ?? memoryBytes,
    uuid: null,
  };
}

/** One core stays with the daemon. */
function cpuThreads(cores: number): number {
  return Math.max(1, cores - 1);
}

export interface DeviceUsage {
  readonly usedBytes: number;
  readonly freeBytes: number;
}

/** What all processes together use of a GPU now; null for cpu and webgpu, and when the driver does not answer. */
export async function readDeviceUsage(device: { readonly uuid: string | null }, query: NvidiaSmi = nvidiaSmi): Promise<DeviceUsage | null> {
  if (device.uuid === null) return null;
  const rows = await query([`--id=${device.uuid}`, "--query-gpu=memory.used,memory.free"]);
  const usedBytes = mebibytes(rows?.[0]?.[0]);
  const freeBytes = mebibytes(rows?.[0]?.[1]);
  return usedBytes === null || freeBytes === null ? null : { usedBytes, freeBytes };
}

async function machineProbes(): Promise<DeviceProbes> {
  // 0 or more than the machine has: no limit is set.
  const limit = process.constrainedMemory();
  const memoryBytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { ...(await machineCudaProbes()), nvidiaSmi, cores: availableParallelism(), memoryBytes };
}
