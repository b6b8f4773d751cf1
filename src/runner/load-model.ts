import { stat } from "node:fs/promises";
import { relative } from "node:path";
import type { Backend } from "../pipelines/backend.ts";
import type { Pipeline } from "../pipelines/pipeline.ts";
import { FAMILIES } from "../pipelines/registry.ts";
import { AppError } from "../protocol/error.ts";
import type { DeviceSpec, GraphPlacement, LoadCommand, Operators, RuntimeFacts } from "../protocol/ipc.ts";
import { graphOptions, type GraphOptions } from "./graph-options.ts";
import { probeProviders } from "./probe-device.ts";

export interface LoadedModel {
  readonly pipeline: Pipeline;
  /** Of the backend that runs its graphs. */
  readonly guard: Backend["guard"];
  /** Nodes per execution provider in the probe; empty for a family without native code. */
  readonly providers: Readonly<Record<string, number>>;
  /** What the providers of its graphs report of their options. */
  readonly reports?: readonly string[];
  /** Of the graphs that the load opened. Undefined as ReadyMessage.placement says. */
  readonly placement?: readonly GraphPlacement[];
}

/** How a device's backend is opened; see open-backend.ts. */
export type OpenBackend = (
  options: {
    readonly device: DeviceSpec;
    readonly profileDir?: string;
    readonly onPlacement?: (path: string, operators: Operators) => unknown;
  } & Partial<GraphOptions["settings"]>,
) => Backend;

/** Proves the device, then loads the model on it with a backend of `open`. `stage` is told what is loaded from now on. @throws AppError */
export async function loadModel(
  command: LoadCommand,
  stage: (name: string) => void,
  open: () => Promise<OpenBackend> = importBackend,
): Promise<LoadedModel> {
  const { manifest, modelDir, device, previews, embeddingCacheBytes, budgetBytes = null } = command;
  if (
    !(await stat(modelDir).then(
      (found) => found.isDirectory(),
      () => false,
    ))
  ) {
    throw new AppError("MODEL_NOT_FOUND", `model ${manifest.slug}: folder ${modelDir} does not exist`);
  }
  const family = FAMILIES[manifest.family];
  stage("load:device");
  const { settings, reports } = graphOptions(command);
  // A file that is opened again counts once.
  const placed = new Map<string, Operators>();
  const onPlacement = (path: string, operators: Operators): unknown => placed.set(relative(modelDir, path), operators);
  const options = { ...settings, ...((device.kind !== "cpu" || command.placement === true) && { onPlacement }) };
  const { backend, providers } = family.native ? await openNative(device, options, open) : { backend: NO_BACKEND, providers: {} };
  stage("load:model");
  const create = await family.open();
  const pipeline = await create({ manifest, modelDir, device, backend, previews, embeddingCacheBytes, budgetBytes, stage });
  const placement = [...placed].map(([path, operators]) => ({ path, operators }));
  const guard: Backend["guard"] = (signal) => backend.guard(signal);
  return { pipeline, providers, reports: reports(), guard, ...(placement.length > 0 && { placement }) };
}

/** Runs a real operation on the device; resolves to the nodes per execution provider. @throws AppError DEVICE_UNAVAILABLE */
export async function proveDevice(device: DeviceSpec): Promise<LoadedModel["providers"]> {
  return probeProviders(device, await importBackend());
}

/** Which onnxruntime the proof and the model have loaded; null for a family without native code. */
export async function readRuntime(): Promise<RuntimeFacts | null> {
  return (await import("./runtime-facts.ts")).runtimeFacts();
}

async function openNative(
  device: DeviceSpec,
  options: Omit<Parameters<OpenBackend>[0], "device">,
  open: () => Promise<OpenBackend>,
): Promise<{ readonly backend: Backend; readonly providers: LoadedModel["providers"] }> {
  const providers = await proveDevice(device);
  const openBackend = await open();
  return { backend: openBackend({ device, ...options }), providers };
}

/** The only import of onnxruntime in the whole program, and only once it is needed. */
async function importBackend(): Promise<OpenBackend> {
  return (await import("./open-backend.ts")).openBackend;
}

const NO_BACKEND: Backend = {
  open: (path) => Promise.reject(new AppError("INTERNAL", `${path}: this family has no native backend; this is a bug`)),
  guard: () => undefined,
};
