import { join } from "node:path";
import { AppError } from "../../protocol/error.ts";
import type { DeviceSpec, Operators } from "../../protocol/ipc.ts";
import type { RuntimeOptions } from "../../protocol/runtime-options.ts";
import { appendProviders, readConfigEntry, type ProviderReport } from "./append-providers.ts";
import { owned, type Environment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import { RECORD_PLACEMENT } from "./node-placement.ts";
import type { PluginLibraries } from "./plugin-libraries.ts";

/** What a session is opened with. */
export interface OrtSettings {
  readonly device: DeviceSpec;
  /** Sessions write a profile (`*.json`, one provider name per node) into this folder when they are released. Costs time: probes only. */
  readonly profileDir?: string;
  /** Told of each graph that is opened which execution provider got which operators; see node-placement.ts. */
  readonly onPlacement?: (path: string, operators: Operators) => void;
  /** The options of a graph, by its path. */
  readonly runtime?: (path: string) => RuntimeOptions;
  /** Libraries of plugin providers, by the names that `runtime` uses. */
  readonly epLibraries?: PluginLibraries;
  /** Told what each provider of each graph reports of itself, before the graph is opened. */
  readonly onProvider?: (report: ProviderReport) => void;
}

/** Values of the header's enums. */
const [SEQUENTIAL, OPTIMIZE_ALL, LOG_ERRORS] = [0, 99, 3];

/**
 * Choices, each measured with onnxruntime 1.30 on two cores (24 MatMul of 2048 x 2048 over 576 tokens, 400 MB; 8 Conv of 128 channels
 * at 160 x 160):
 *   prepacking on    opens in 0.28 s instead of 0.03 s (0.7 s a GB), each run takes 255 ms instead of 277 ms: a loaded model runs hundreds
 *                    of times. Conv and the tiny Flux models (0.13 s, 17 ms a job): no difference either way.
 *   CPU arena on     the same speed; after the Conv runs the process holds 208 MB instead of 326 MB (fewer fragments).
 *   memory patterns  no difference in time or memory; left on, as shapes repeat.
 *   spinning off     a runner mostly waits: idle threads burned a core each otherwise, at the same wall time.
 */
const CONFIG: Readonly<Record<string, string>> = {
  "session.intra_op.allow_spinning": "0",
  "session.inter_op.allow_spinning": "0",
};

/** Options of a session of that graph; the caller disposes of them once the session is open. @throws AppError as appendProviders; OrtFailure */
export function sessionOptions(env: Environment, path: string, settings: OrtSettings): Handle<"SessionOptions"> {
  const { device, profileDir, onPlacement, epLibraries = {}, onProvider } = settings;
  const runtime = settings.runtime?.(path) ?? {};
  const { call } = env.library;
  const handle = owned(env, "SessionOptions", "session options", call.CreateSessionOptions());
  try {
    const { pointer } = handle;
    call.SetSessionGraphOptimizationLevel(pointer, OPTIMIZE_ALL);
    call.SetSessionExecutionMode(pointer, SEQUENTIAL);
    call.SetIntraOpNumThreads(pointer, runtime.intra_op_num_threads ?? device.threads);
    call.SetInterOpNumThreads(pointer, 1);
    if (runtime.enable_mem_pattern === false) call.DisableMemPattern(pointer);
    if (runtime.enable_cpu_mem_arena === false) call.DisableCpuMemArena(pointer);
    call.SetSessionLogSeverityLevel(pointer, LOG_ERRORS);
    const isRecorded = onPlacement !== undefined || namesProviders(runtime, device);
    addEntries(env, handle, { ...CONFIG, ...runtime.session, ...(isRecorded && RECORD_PLACEMENT) });
    if (profileDir !== undefined) call.EnableProfiling(pointer, join(profileDir, "ort"));
    for (const report of appendProviders(env, handle, { device, runtime, libraries: epLibraries })) onProvider?.(report);
    return handle;
  } catch (thrown) {
    handle[Symbol.dispose]();
    throw thrown;
  }
}

/** Whether the graph is meant for providers that somebody named, the CPU not among them. */
export function namesProviders({ providers }: RuntimeOptions, { kind }: DeviceSpec): boolean {
  return providers?.[kind] !== undefined && !providers[kind].includes("cpu");
}

/** @throws AppError MODEL_UNSUPPORTED when the library does not hold what it was given */
function addEntries(env: Environment, options: Handle<"SessionOptions">, entries: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(entries)) {
    env.library.call.AddSessionConfigEntry(options.pointer, key, value);
    const held = readConfigEntry(env, options, key);
    if (held === value) continue;
    throw new AppError("MODEL_UNSUPPORTED", `onnxruntime holds ${held ?? "nothing"} under ${key}, which was set to ${value}`);
  }
}

/** Config entries of each run of the graph. */
export function runEntries(path: string, { device, runtime }: OrtSettings): Readonly<Record<string, string>> {
  if (runtime?.(path).arena_shrinkage !== true) return {};
  // Arenas of the host are used beside those of a GPU.
  const arenas = device.kind === "cuda" ? `gpu:${device.index};cpu:0` : "cpu:0";
  return { "memory.enable_memory_arena_shrinkage": arenas };
}
