import { createReadStream } from "node:fs";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { readConfig } from "../config/config.ts";
import type { ModelEntry } from "../models/scan-models.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import type { DeviceKind } from "../protocol/manifest.ts";
import { detectDevices, type DetectedDevice } from "../worker/devices/devices.ts";
import { PlacementReader, type GraphPlacement } from "../worker/runners/node-placement.ts";
import { onnxruntimeSettings } from "../worker/runners/onnxruntime-settings.ts";
import { startRunner } from "../worker/runners/runner-process.ts";
import { explainDeviceError } from "../worker/runners/runner-recorder.ts";
import { formatMs, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

const PROVIDERS: Readonly<Record<DeviceKind, string>> = {
  cuda: "CUDAExecutionProvider",
  webgpu: "WebGpuExecutionProvider",
  cpu: "CPUExecutionProvider",
};

const STOP_GRACE_MS = 10_000;

export interface ModelPlacement {
  readonly device: string;
  readonly loadMs: number;
  /** None for a family without native code. */
  readonly graphs: readonly GraphPlacement[];
}

/** The first device of a kind. @throws AppError DEVICE_UNAVAILABLE that says what is missing */
export async function firstDevice(kind: DeviceKind, env: Env): Promise<DetectedDevice> {
  const [device] = await detectDevices(kind, { env });
  if (device === undefined) throw new AppError("DEVICE_UNAVAILABLE", `device ${kind} was asked for, but this machine has none`);
  return device;
}

/** Loads a model on a device as the daemon does, in a runner of its own, and tells which provider got which nodes. @throws AppError */
export async function placeModel(model: ModelEntry, device: DetectedDevice, env: Env): Promise<ModelPlacement> {
  await using stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "dryapi-placement-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const log = join(dir, "log");
  const loadMs = await loadLogged(model, device, env, log).catch(async (thrown: unknown) => {
    throw explainDeviceError(asAppError(thrown), await readFile(log, "utf8"));
  });
  const reader = new PlacementReader();
  for await (const line of createInterface({ input: createReadStream(log) })) reader.read(line);
  const graphs = reader.graphs(model.dir);
  if (graphs.length === 0 && model.manifest.family !== "fake") {
    throw new AppError("INTERNAL", `onnxruntime's log does not say where the nodes of model ${model.slug} are; this is a bug`);
  }
  return { device: device.id, loadMs, graphs };
}

/** Resolves to the milliseconds of the load, once the runner has ended and the log is whole. */
async function loadLogged(model: ModelEntry, device: DetectedDevice, env: Env, log: string): Promise<number> {
  await using file = await open(log, "a");
  await using runner = await startRunner({
    manifest: model.manifest,
    modelDir: model.dir,
    device,
    previews: false,
    embeddingCacheBytes: 0,
    cancelGraceMs: 1_000,
    placementLogFd: file.fd,
    env,
    ...onnxruntimeSettings(readConfig(env)),
    log: { debug: () => undefined, warn: () => undefined },
  });
  const { loadMs } = await runner.ready;
  await runner.stop({ graceMs: STOP_GRACE_MS });
  return loadMs;
}

export function printPlacement(slug: string, { device, loadMs, graphs }: ModelPlacement, kind: DeviceKind, terminal: Terminal): void {
  terminal.out(`ok    ${slug} on ${device}: loaded in ${formatMs(loadMs)}${graphs.length === 0 ? ", no native code" : ""}`);
  for (const { path, nodes, operators, copies } of graphs) {
    const asked = (provider: string): number => (provider === PROVIDERS[kind] ? 0 : 1);
    const sorted = Object.entries(nodes).toSorted(([a], [b]) => asked(a) - asked(b));
    const counts = sorted.map(([provider, count]) => `${count} nodes on ${provider}`);
    terminal.out(`      ${path}: ${counts.join(", ")}${copies === 0 ? "" : `, ${copies} copies between them`}`);
    for (const [provider, found] of Object.entries(operators)) {
      if (provider === PROVIDERS[kind]) continue;
      const names = Object.entries(found).toSorted(([, a], [, b]) => b - a);
      terminal.out(`        ${provider}: ${names.map(([operator, count]) => `${operator} ${count}`).join(", ")}`);
    }
  }
}
