import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError, asAppError } from "../protocol/error.ts";
import { EXECUTION_PROVIDERS, type DeviceSpec } from "../protocol/ipc.ts";
import type { Backend } from "../pipelines/backend.ts";
import { PROBE_SIZE, probeModel } from "./probe-model.ts";

/** Opens a backend whose sessions write onnxruntime's profile into `profileDir` when they are released. */
export type OpenProfiled = (options: { readonly device: DeviceSpec; readonly profileDir: string }) => Backend;

/**
 * Runs a two-node model on the device and reads from onnxruntime's profile which execution providers ran its nodes: the only proof
 * there is, since an operator that a provider lacks falls back to the CPU in silence. Checks the numbers as well.
 * Returns nodes per provider. @throws AppError DEVICE_UNAVAILABLE when the asked provider ran none, or computed wrongly.
 */
export async function probeProviders(device: DeviceSpec, open: OpenProfiled): Promise<Readonly<Record<string, number>>> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-probe-"));
  try {
    const modelPath = join(dir, "probe.onnx");
    await writeFile(modelPath, probeModel());
    await runProbe(device, open({ device, profileDir: dir }), modelPath);
    const providers = await countProviders(dir);
    assertRanOn(device, providers);
    return providers;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** @throws AppError DEVICE_UNAVAILABLE unless every node of the probe ran on the provider of the asked device. */
export function assertRanOn(device: DeviceSpec, providers: Readonly<Record<string, number>>): void {
  const wanted = EXECUTION_PROVIDERS[device.kind];
  const others = Object.keys(providers).filter((name) => name !== wanted);
  if ((providers[wanted] ?? 0) > 0 && others.length === 0) return;
  const seen = Object.entries(providers).map(([name, nodes]) => `${nodes} on ${name}`);
  throw new AppError(
    "DEVICE_UNAVAILABLE",
    `device ${device.kind}:${device.index} was asked for, but the probe's nodes ran ${seen.length === 0 ? "nowhere that the profile names" : seen.join(", ")} instead of on ${wanted}`,
  );
}

async function runProbe(device: DeviceSpec, backend: Backend, modelPath: string): Promise<void> {
  const dims = [PROBE_SIZE, PROBE_SIZE];
  // a = 2 on the diagonal, b counts from -100: y = max(0, 2 b), exact in every float format.
  const a = Float32Array.from({ length: PROBE_SIZE ** 2 }, (_, i) => (i % (PROBE_SIZE + 1) === 0 ? 2 : 0));
  const b = Float32Array.from({ length: PROBE_SIZE ** 2 }, (_, i) => (i % 256) - 100);
  try {
    const session = await backend.open(modelPath);
    try {
      const { y } = await session.run({ a: { type: "float32", data: a, dims }, b: { type: "float32", data: b, dims } });
      if (y?.type !== "float32" || !y.data.every((value, i) => value === Math.max(0, 2 * (b[i] ?? 0)))) {
        throw new AppError("DEVICE_UNAVAILABLE", `device ${device.kind}:${device.index} computed a wrong matrix product`);
      }
    } finally {
      await session.release();
    }
  } catch (thrown) {
    // Whatever keeps this model of ours from running is the device's fault, never the model's.
    const { message } = asAppError(thrown);
    throw new AppError("DEVICE_UNAVAILABLE", `device ${device.kind}:${device.index} cannot be used: ${message}`, { cause: thrown });
  }
}

async function countProviders(dir: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const name of await readdir(dir)) {
    if (!name.endsWith(".json")) continue;
    for (const event of JSON.parse(await readFile(join(dir, name), "utf8")) as readonly ProfileEvent[]) {
      const provider = event.args?.provider;
      // Copies between host and device count for no provider: they prove nothing.
      if (event.cat !== "Node" || provider === undefined || event.args?.op_name?.startsWith("Memcpy") === true) continue;
      counts[provider] = (counts[provider] ?? 0) + 1;
    }
  }
  return counts;
}

interface ProfileEvent {
  readonly cat?: string;
  readonly args?: { readonly provider?: string; readonly op_name?: string };
}
