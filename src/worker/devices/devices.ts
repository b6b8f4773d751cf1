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

export type NoteLevel = "info" | "warn";

export interface DetectOptions {
  /** DRYAPI_DEVICES: the numbers of the GPUs to use, each of which must be there; null = all there are. Ignored for cpu and webgpu. */
  readonly only?: readonly number[] | null;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told why `auto` did not take the GPU, and what else an operator should know; `warn` where somebody has to do something. */
  readonly onNote?: (note: string, level: NoteLevel) => void;
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
 * The devices of this host for DRYAPI_DEVICE and DRYAPI_DEVICES. `auto` takes cuda where driver, provider and all its libraries are there,
 * else cpu; naming GPUs asks for cuda. webgpu only when asked for. What is found here from files is proved by an operation before it takes
 * work (prove-device.ts).
 * @throws AppError DEVICE_UNAVAILABLE when a GPU is asked for and cannot be had: names what is missing and what to do
 */
export async function detectDevices(setting: DeviceSetting, options: DetectOptions = {}): Promise<readonly DetectedDevice[]> {
  const probes = options.probes ?? machineProbes();
  const env = options.env ?? process.env;
  const { only = null, onNote } = options;
  if (setting === "cpu") return [cpuDevice(probes)];
  if (setting === "webgpu") return [await webgpuDevice(probes)];
  const found = await findCuda(env, probes);
  if (found.kind === "found") return gpuDevices(found, { only, env, cores: probes.cores, onNote });
  const wish = only === null ? "device cuda was asked for" : `DRYAPI_DEVICES=${only.join(",")} asks for GPUs`;
  if (setting === "cuda" || only !== null) throw new AppError("DEVICE_UNAVAILABLE", `${wish}, but ${found.why}`);
  // A machine without a GPU is what auto is for; a GPU that lies idle is somebody's mistake.
  if (found.kind === "no-gpu") onNote?.(`device auto is cpu, not cuda: ${found.why}`, "info");
  else onNote?.(`device auto is cpu although there is a GPU: ${found.why}; or set DRYAPI_DEVICE=cpu if that is meant`, "warn");
  return [cpuDevice(probes)];
}

type FoundCuda =
  /** In CUDA's order. */
  { readonly kind: "found"; readonly listed: Listed } | { readonly kind: "no-gpu" | "unusable"; readonly why: string };

async function findCuda(env: Readonly<Record<string, string | undefined>>, probes: DeviceProbes): Promise<FoundCuda> {
  const unusable = (why: string): FoundCuda => ({ kind: "unusable", why });
  const listed = await listGpus(probes.nvidiaSmi);
  if (typeof listed === "string") return { kind: "no-gpu", why: listed };
  const { gpus } = listed;
  const { visible } = visibleGpus(gpus, env["CUDA_VISIBLE_DEVICES"]);
  if (visible.length === 0) return unusable(`CUDA_VISIBLE_DEVICES=${env["CUDA_VISIBLE_DEVICES"]} leaves none of the ${gpus.length} GPUs`);
  const provider = await findCudaProvider(env, probes);
  if (!provider.ok) return unusable(provider.why);
  const driver = visible[0]?.driver ?? "";
  const needed = MIN_DRIVER[provider.cudaMajor] ?? 0;
  if (Number(driver.split(".")[0]) < needed) {
    return unusable(
      `the CUDA provider in ${provider.dir} is built for CUDA ${provider.cudaMajor}, which needs NVIDIA driver ${needed} or newer; installed is ${driver}`,
    );
  }
  return { kind: "found", listed };
}

/** The GPUs that are to be used. @throws AppError DEVICE_UNAVAILABLE that names those that are missing and those that are there */
function gpuDevices(
  { listed }: Extract<FoundCuda, { kind: "found" }>,
  use: {
    readonly only: readonly number[] | null;
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly cores: number;
    readonly onNote: DetectOptions["onNote"];
  },
): readonly DetectedDevice[] {
  const setting = use.env["CUDA_VISIBLE_DEVICES"];
  const { visible, cutAt } = visibleGpus(listed.gpus, setting);
  if (listed.lost !== null) use.onNote?.(`${listed.lost}; reset or replace what is lost, the others are used`, "warn");
  const cut =
    cutAt === null
      ? ""
      : `entry ${JSON.stringify(cutAt)} of CUDA_VISIBLE_DEVICES=${setting} names no GPU here, and CUDA sees none after it`;
  if (cut !== "") use.onNote?.(cut, "warn");
  const missing = (use.only ?? []).filter((index) => index >= visible.length);
  if (missing.length > 0) {
    const here = visible.map(({ name, uuid }, index) => `${index} (${name}, ${uuid})`).join(", ");
    const counted = setting === undefined ? "" : `, counted as CUDA_VISIBLE_DEVICES=${setting} orders them`;
    const why = [cut, listed.lost ?? ""].map((text) => (text === "" ? "" : `; ${text}`)).join("");
    throw new AppError(
      "DEVICE_UNAVAILABLE",
      `DRYAPI_DEVICES=${use.only?.join(",")} asks for GPU ${missing.join(" and ")}, which is not here. Here: ${here}${counted}${why}. Look for lost cards (dmesg | grep Xid), or name those that are here`,
    );
  }
  // CUDA numbers the devices that it may see from 0 on.
  const chosen = visible.map((gpu, index) => ({ gpu, index })).filter(({ index }) => use.only?.includes(index) ?? true);
  const threads = Math.max(1, Math.min(MAX_GPU_HOST_THREADS, Math.floor((use.cores - 1) / chosen.length)));
  return chosen.map(({ gpu: { uuid, name, memoryBytes }, index }) => {
    return { id: `cuda:${index}`, kind: "cuda", index, threads, name, memoryBytes, uuid };
  });
}

interface Listed {
  readonly gpus: readonly Gpu[];
  /** What is wrong with GPUs that the driver shows and cannot read; null = all are well. */
  readonly lost: string | null;
}

/** The GPUs that the driver shows, or why there are none. */
async function listGpus(query: NvidiaSmi): Promise<Listed | string> {
  let said = "nvidia-smi is missing or finds no GPU";
  const rows = (await query(["--query-gpu=index,uuid,name,memory.total,driver_version"], (failure) => (said = failure))) ?? [];
  const gpus: Gpu[] = [];
  const unread: string[] = [];
  for (const row of rows) {
    const [index, uuid, name, memory, driver] = row;
    const memoryBytes = mebibytes(memory);
    if (uuid === undefined || name === undefined || driver === undefined || memoryBytes === null) unread.push(row.join(", "));
    else gpus.push({ index: Number(index), uuid, name, memoryBytes, driver });
  }
  const lost = unread.length === 0 ? null : `nvidia-smi cannot read ${unread.length} of ${rows.length} GPUs: ${unread.join(" | ")}`;
  if (gpus.length > 0) return { gpus, lost };
  return `${lost ?? said}: install the NVIDIA driver (in a container: run it with the NVIDIA runtime)`;
}

interface VisibleGpus {
  readonly visible: readonly Gpu[];
  /** The entry that names none, or one a second time; null = all do. */
  readonly cutAt: string | null;
}

/** CUDA_VISIBLE_DEVICES as CUDA reads it: numbers or (beginnings of) UUIDs in the order wanted; the list ends at the first that is wrong. */
function visibleGpus(gpus: readonly Gpu[], setting: string | undefined): VisibleGpus {
  if (setting === undefined) return { visible: gpus, cutAt: null };
  const visible: Gpu[] = [];
  for (const entry of setting.split(",").map((part) => part.trim())) {
    const gpu = gpus.find(({ index, uuid }) => (entry.startsWith("GPU-") ? uuid.startsWith(entry) : entry === String(index)));
    if (gpu === undefined || visible.includes(gpu)) return { visible, cutAt: entry };
    visible.push(gpu);
  }
  return { visible, cutAt: null };
}

function cpuDevice({ cores, memoryBytes }: DeviceProbes): DetectedDevice {
  return { id: "cpu:0", kind: "cpu", index: 0, threads: cpuThreads(cores), name: `CPU, ${cores} cores`, memoryBytes, uuid: null };
}

async function webgpuDevice({ nvidiaSmi: query, cores, memoryBytes }: DeviceProbes): Promise<DetectedDevice> {
  const listed = await listGpus(query);
  const gpu = typeof listed === "string" ? undefined : listed.gpus[0];
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

function machineProbes(): DeviceProbes {
  // 0 or more than the machine has: no limit is set.
  const limit = process.constrainedMemory();
  const memoryBytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { ...machineCudaProbes(), nvidiaSmi, cores: availableParallelism(), memoryBytes };
}
