import { AppError } from "../../protocol/error.ts";
import type { DeviceSpec } from "../../protocol/ipc.ts";
import type { Environment } from "./environment.ts";
import type { Pointer } from "./signature.ts";

/** Libraries of plugin providers by the names that they are registered under (DRYAPI_EP_LIBRARIES). */
export type PluginLibraries = Readonly<Record<string, string>>;

/** A device that a plugin provider offers. */
export interface PluginDevice {
  readonly pointer: Pointer<"EpDevice">;
  /** The provider's own name for itself, such as OpenVINOExecutionProvider. */
  readonly provider: string;
  readonly type: string;
}

/** OrtHardwareDeviceType. */
const TYPES = ["CPU", "GPU", "NPU"];

/** Registered once and for as long as the process lives: sessions hold on to what a library made. */
const registered = new WeakMap<Environment, Map<string, readonly PluginDevice[]>>();

/**
 * Loads a provider's library on the first call and tells the devices that came with it.
 * @throws AppError DEVICE_UNAVAILABLE that names the library and says what the loader or the library said
 */
export function pluginDevices(env: Environment, name: string, libraries: PluginLibraries): readonly PluginDevice[] {
  const known = registered.get(env) ?? new Map<string, readonly PluginDevice[]>();
  registered.set(env, known);
  const found = known.get(name) ?? register(env, name, libraries);
  known.set(name, found);
  return found;
}

function register(env: Environment, name: string, libraries: PluginLibraries): readonly PluginDevice[] {
  const path = libraries[name];
  if (path === undefined) {
    const there = Object.keys(libraries);
    throw new AppError(
      "DEVICE_UNAVAILABLE",
      `provider ${name} is asked for, and DRYAPI_EP_LIBRARIES names ${there.length === 0 ? "no library" : `only ${there.join(", ")}`}: add ${name}=/path/of/its/library`,
    );
  }
  const before = new Set(listDevices(env).map(({ pointer }) => pointer));
  try {
    env.library.call.RegisterExecutionProviderLibrary(env.pointer, name, path);
  } catch (thrown) {
    throw new AppError("DEVICE_UNAVAILABLE", `provider ${name} cannot be loaded from ${path}: ${(thrown as Error).message}`, {
      cause: thrown,
    });
  }
  return listDevices(env).filter(({ pointer }) => !before.has(pointer));
}

/** All devices of all providers that are registered, built-in ones too. */
function listDevices({ library: { call, addresses }, pointer }: Environment): readonly PluginDevice[] {
  const [array, count] = call.GetEpDevices(pointer);
  return addresses(array, count).map((address) => {
    const device = address as Pointer<"EpDevice">;
    const type = call.HardwareDeviceType(call.EpDeviceHardware(device));
    return { pointer: device, provider: call.EpDeviceName(device), type: TYPES[type] ?? `type ${type}` };
  });
}

/**
 * The device that a model's device is for a plugin: for a GPU the one in its place among the plugin's GPUs, else its CPU.
 * @throws AppError DEVICE_UNAVAILABLE that says which devices there are
 */
export function chooseDevice(name: string, path: string, { kind, index }: DeviceSpec, devices: readonly PluginDevice[]): PluginDevice {
  const type = kind === "cpu" ? "CPU" : "GPU";
  const chosen = devices.filter((device) => device.type === type)[index];
  if (chosen !== undefined) return chosen;
  const there = devices.map((device) => `${device.type} of ${device.provider}`);
  throw new AppError(
    "DEVICE_UNAVAILABLE",
    `provider ${name} (${path}) has no ${type} number ${index} here, which ${kind}:${index} would be; it found ${there.length === 0 ? "no device" : there.join(", ")}`,
  );
}
