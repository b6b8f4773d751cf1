import { stat } from "node:fs/promises";
import { relative } from "node:path";
import type { Backend } from "../pipelines/backend.ts";
import type { Pipeline } from "../pipelines/pipeline.ts";
import { FAMILIES } from "../pipelines/registry.ts";
import { AppError } from "../protocol/error.ts";
import type { DeviceSpec, GraphPlacement, LoadCommand, Operators } from "../protocol/ipc.ts";
import { probeProviders } from "./probe-device.ts";

export interface LoadedModel {
  readonly pipeline: Pipeline;
  /** Nodes per execution provider in the probe; empty for a family without native code. */
  readonly providers: Readonly<Record<string, number>>;
  /** Of the graphs that the load opened. Undefined as ReadyMessage.placement says. */
  readonly placement?: readonly GraphPlacement[];
}

type OpenBackend = (options: {
  readonly device: DeviceSpec;
  readonly profileDir?: string;
  readonly onPlacement?: (path: string, operators: Operators) => void;
}) => Backend;

/** Proves the device, then loads the model on it. `stage` is called before every call that blocks. @throws AppError */
export async function loadModel(command: LoadCommand, stage: (name: string) => void): Promise<LoadedModel> {
  const { manifest, modelDir, device, previews, embeddingCacheBytes } = command;
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
  // A file that is opened again counts once.
  const placed = new Map<string, Operators>();
  const { backend, providers } = family.native
    ? await openNative(device, (path, operators) => placed.set(relative(modelDir, path), operators))
    : { backend: NO_BACKEND, providers: {} };
  stage("load:model");
  const create = await family.open();
  const pipeline = await create({ manifest, modelDir, device, backend, previews, embeddingCacheBytes, stage });
  const placement = [...placed].map(([path, operators]) => ({ path, operators }));
  return { pipeline, providers, ...(placement.length > 0 && { placement }) };
}

/** Runs a real operation on the device; resolves to the nodes per execution provider. @throws AppError DEVICE_UNAVAILABLE */
export async function proveDevice(device: DeviceSpec): Promise<LoadedModel["providers"]> {
  return probeProviders(device, await importBackend());
}

async function openNative(
  device: DeviceSpec,
  onPlacement: (path: string, operators: Operators) => void,
): Promise<{ readonly backend: Backend; readonly providers: LoadedModel["providers"] }> {
  const providers = await proveDevice(device);
  const open = await importBackend();
  return { backend: open({ device, onPlacement }), providers };
}

/** The only import of onnxruntime in the whole program, and only once it is needed. */
async function importBackend(): Promise<OpenBackend> {
  return (await import("./open-backend.ts")).openBackend;
}

const NO_BACKEND: Backend = {
  open: (path) => Promise.reject(new AppError("INTERNAL", `${path}: this family has no native backend; this is a bug`)),
  guard: () => undefined,
};
