import { join } from "node:path";
import { owned, type Environment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import { RECORD_PLACEMENT } from "./node-placement.ts";
import type { DeviceSpec, Operators } from "../../protocol/ipc.ts";

/** What a session is opened with. */
export interface OrtSettings {
  readonly device: DeviceSpec;
  /** Sessions write a profile (`*.json`, one provider name per node) into this folder when they are released. Costs time: probes only. */
  readonly profileDir?: string;
  /** Told of each graph that is opened which execution provider got which operators; see node-placement.ts. */
  readonly onPlacement?: (path: string, operators: Operators) => void;
  /** Further config entries, such as `session.disable_prepacking`. */
  readonly config?: Readonly<Record<string, string>>;
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

/** Options of a session; the caller disposes of them once the session is open. */
export function sessionOptions(env: Environment, settings: OrtSettings): Handle<"SessionOptions"> {
  const { device, profileDir, onPlacement, config = {} } = settings;
  const { call } = env.library;
  const handle = owned(env, "SessionOptions", "session options", call.CreateSessionOptions());
  try {
    const { pointer } = handle;
    call.SetSessionGraphOptimizationLevel(pointer, OPTIMIZE_ALL);
    call.SetSessionExecutionMode(pointer, SEQUENTIAL);
    call.SetIntraOpNumThreads(pointer, device.threads);
    call.SetInterOpNumThreads(pointer, 1);
    call.SetSessionLogSeverityLevel(pointer, LOG_ERRORS);
    const entries = { ...CONFIG, ...(onPlacement !== undefined && RECORD_PLACEMENT), ...config };
    for (const [key, value] of Object.entries(entries)) call.AddSessionConfigEntry(pointer, key, value);
    if (profileDir !== undefined) call.EnableProfiling(pointer, join(profileDir, "ort"));
    appendProvider(env, handle, device);
    return handle;
  } catch (thrown) {
    handle[Symbol.dispose]();
    throw thrown;
  }
}

/** A GPU is asked for alone: onnxruntime then fails when the provider is not there. The CPU's is always there, after all others. */
function appendProvider({ library: { call } }: Environment, options: Handle<"SessionOptions">, { kind, index }: DeviceSpec): void {
  if (kind === "webgpu") call.AppendProvider(options.pointer, "WebGPU", [], [], 0);
  if (kind !== "cuda") return;
  const cuda = call.CreateCUDAProviderOptions();
  try {
    call.UpdateCUDAProviderOptions(cuda, ["device_id"], [String(index)], 1);
    call.AppendCudaProvider(options.pointer, cuda);
  } finally {
    call.ReleaseCUDAProviderOptions(cuda);
  }
}
