import type { DeviceSpec } from "../../protocol/ipc.ts";
import type { RuntimeOptions } from "../../protocol/runtime-options.ts";
import { takeText, type Environment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import { chooseDevice, pluginDevices, type PluginLibraries } from "./plugin-libraries.ts";
import { optionTexts, parseReport, requireReported } from "./provider-options.ts";
import type { Pointer } from "./signature.ts";

/** What a provider says of itself once it has its options. */
export interface ProviderReport {
  /** As the graph's nodes name it, such as CUDAExecutionProvider. */
  readonly provider: string;
  /** `key=value;key=value`, in the library's own words. */
  readonly options: string;
}

export interface ProvidersAsked {
  readonly device: DeviceSpec;
  readonly runtime: RuntimeOptions;
  readonly libraries: PluginLibraries;
}

/** The providers of each kind of device unless the options say otherwise. A GPU is asked for alone: the CPU's is always there, after all others. */
const DEFAULT_ORDER = { cuda: ["cuda"], webgpu: ["webgpu"], cpu: ["cpu"] } as const;

/**
 * Appends the providers in their order. What each of them reports is compared with what it was told.
 * @throws AppError MODEL_UNSUPPORTED for an option that did not come back, DEVICE_UNAVAILABLE for a plugin that is not to be had; OrtFailure
 */
export function appendProviders(env: Environment, options: Handle<"SessionOptions">, asked: ProvidersAsked): readonly ProviderReport[] {
  const { device, runtime } = asked;
  const names: readonly string[] = runtime.providers?.[device.kind] ?? DEFAULT_ORDER[device.kind];
  return names.flatMap((name) => {
    if (name === "cpu") return [];
    if (name === "cuda") return [appendCuda(env, options, asked)];
    if (name === "tensorrt") return [appendTensorrt(env, options, asked)];
    if (name !== "webgpu") return [appendPlugin(env, options, name, asked)];
    env.library.call.AppendProvider(options.pointer, "WebGPU", [], [], 0);
    return [{ provider: "WebGpuExecutionProvider", options: "" }];
  });
}

function appendCuda(env: Environment, options: Handle<"SessionOptions">, { device, runtime }: ProvidersAsked): ProviderReport {
  const { call } = env.library;
  const cuda = call.CreateCUDAProviderOptions();
  try {
    const report = updateCuda(env, cuda, optionTexts({ ...runtime.cuda, device_id: device.index }));
    call.AppendCudaProvider(options.pointer, cuda);
    return { provider: "CUDAExecutionProvider", options: report };
  } finally {
    call.ReleaseCUDAProviderOptions(cuda);
  }
}

/** Sets options and resolves to what the provider then reports. @throws AppError MODEL_UNSUPPORTED, OrtFailure */
export function updateCuda(env: Environment, cuda: Pointer<"CUDAProviderOptions">, asked: Readonly<Record<string, string>>): string {
  const { call } = env.library;
  call.UpdateCUDAProviderOptions(cuda, Object.keys(asked), Object.values(asked), Object.keys(asked).length);
  const report = takeText(env, call.GetCUDAProviderOptionsAsString(cuda, env.allocator));
  requireReported("CUDA", asked, parseReport(report));
  return report;
}

function appendTensorrt(env: Environment, options: Handle<"SessionOptions">, { device, runtime }: ProvidersAsked): ProviderReport {
  const { call } = env.library;
  const tensorrt = call.CreateTensorRTProviderOptions();
  try {
    const report = updateTensorrt(env, tensorrt, optionTexts({ ...runtime.tensorrt, device_id: device.index }));
    call.AppendTensorRTProvider(options.pointer, tensorrt);
    return { provider: "TensorrtExecutionProvider", options: report };
  } finally {
    call.ReleaseTensorRTProviderOptions(tensorrt);
  }
}

/** As `updateCuda`. */
export function updateTensorrt(
  env: Environment,
  tensorrt: Pointer<"TensorRTProviderOptions">,
  asked: Readonly<Record<string, string>>,
): string {
  const { call } = env.library;
  call.UpdateTensorRTProviderOptions(tensorrt, Object.keys(asked), Object.values(asked), Object.keys(asked).length);
  const report = takeText(env, call.GetTensorRTProviderOptionsAsString(tensorrt, env.allocator));
  requireReported("TensorRT", asked, parseReport(report));
  return report;
}

/** onnxruntime keeps a plugin's options as config entries of the session, under the provider's name: there they are read back. */
function appendPlugin(env: Environment, options: Handle<"SessionOptions">, name: string, asked: ProvidersAsked): ProviderReport {
  const { device, runtime, libraries } = asked;
  const { call } = env.library;
  const chosen = chooseDevice(name, libraries[name] ?? "", device, pluginDevices(env, name, libraries));
  const given = optionTexts(runtime.plugins?.[name] ?? {});
  const keys = Object.keys(given);
  call.AppendProviderDevices(options.pointer, env.pointer, BigUint64Array.of(chosen.pointer), 1, keys, Object.values(given), keys.length);
  const entry = (key: string): string => `ep.${chosen.provider.toLowerCase()}.${key}`;
  const reported = new Map(keys.map((key) => [key, readConfigEntry(env, options, entry(key)) ?? ""]));
  requireReported(name, given, reported);
  return { provider: chosen.provider, options: [...reported].map(([key, value]) => `${key}=${value}`).join(";") };
}

const MAX_ENTRY_BYTES = 2_048;

/** What the library holds under that key of the session's config; null when there is nothing. */
export function readConfigEntry(env: Environment, options: Handle<"SessionOptions">, key: string): string | null {
  const bytes = new Uint8Array(MAX_ENTRY_BYTES);
  const size = BigUint64Array.of(BigInt(MAX_ENTRY_BYTES));
  try {
    env.library.call.GetSessionConfigEntry(options.pointer, key, bytes, size);
  } catch {
    return null;
  }
  // The size counts the zero at the end.
  return Buffer.from(bytes.buffer, 0, Math.max(0, Number(size[0]) - 1)).toString();
}
