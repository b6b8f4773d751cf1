import { readConfig } from "../config/config.ts";
import type { ModelEntry } from "../models/scan-models.ts";
import { AppError } from "../protocol/error.ts";
import { EXECUTION_PROVIDERS, type GraphPlacement } from "../protocol/ipc.ts";
import type { DeviceKind } from "../protocol/manifest.ts";
import { detectDevices, type DetectedDevice } from "../worker/devices/devices.ts";
import { describeLeftOver, leftOver } from "../worker/runners/node-placement.ts";
import { onnxruntimeSettings } from "../worker/runners/onnxruntime-settings.ts";
import { startRunner } from "../worker/runners/runner-process.ts";
import { formatMs, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

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

/**
 * Loads a model on a device as the daemon does, in a runner of its own, and tells which provider got which nodes.
 * @throws AppError DEVICE_UNAVAILABLE and so on of the load, and where the runtime does not tell
 */
export async function placeModel(model: ModelEntry, device: DetectedDevice, env: Env): Promise<ModelPlacement> {
  await using runner = await startRunner({
    manifest: model.manifest,
    modelDir: model.dir,
    device,
    previews: false,
    embeddingCacheBytes: 0,
    cancelGraceMs: 1_000,
    placement: true,
    env,
    ...onnxruntimeSettings(readConfig(env)),
    log: { debug: () => undefined, warn: () => undefined },
  });
  const { loadMs, providers, placement } = await runner.ready;
  await runner.stop({ graceMs: STOP_GRACE_MS });
  // A family without native code runs no probe.
  if (placement === undefined && Object.keys(providers).length > 0) {
    throw new AppError(
      "DEVICE_UNAVAILABLE",
      `model ${model.slug} was loaded on ${device.id}, but onnxruntime-node's own API does not say where its nodes are: run without DRYAPI_RUNTIME=node`,
    );
  }
  return { device: device.id, loadMs, graphs: placement ?? [] };
}

export function printPlacement(slug: string, { device, loadMs, graphs }: ModelPlacement, kind: DeviceKind, terminal: Terminal): void {
  terminal.out(`ok    ${slug} on ${device}: loaded in ${formatMs(loadMs)}${graphs.length === 0 ? ", no native code" : ""}`);
  for (const graph of graphs) {
    const left = describeLeftOver(leftOver(graph, kind));
    const provider = EXECUTION_PROVIDERS[kind];
    terminal.out(`      ${graph.path}: ${left === "" ? `all nodes on ${provider}` : `on ${provider}, but for ${left}`}`);
  }
}
