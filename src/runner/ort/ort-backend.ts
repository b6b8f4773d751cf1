import type { Backend } from "../../pipelines/backend.ts";
import { openEnvironment, requireNoTelemetry } from "./environment.ts";
import { openSession } from "./ort-session.ts";
import { RunGuard } from "./run-guard.ts";
import type { OrtSettings } from "./session-options.ts";

export interface OrtBackendOptions extends OrtSettings {
  /** The library to load; the npm package's by default. */
  readonly libraryPath?: string;
}

/**
 * onnxruntime's C API as a Backend: loads and runs on threads of libuv's pool, so that this thread never waits in native code; runs that
 * can be ended; tensors that stay on the device. Nothing native is loaded before the first `open`.
 *
 * A GPU is asked for alone: onnxruntime then fails when the provider is not there. It still puts single nodes that the provider lacks
 * (shape arithmetic) on the CPU; that the device computes at all is proved by the probe, through `profileDir`.
 *
 * @throws AppError INTERNAL unless ORT_DISABLE_TELEMETRY=1 is set
 */
export function openOrtBackend({ libraryPath, ...settings }: OrtBackendOptions): Backend {
  requireNoTelemetry();
  const guard = new RunGuard();
  return {
    open: async (path) => openSession(await openEnvironment(libraryPath), path, settings, guard),
    guard: (signal) => guard.watch(signal),
  };
}
