import type { Backend } from "../pipelines/backend.ts";
import { openNodeBackend } from "./node-backend.ts";
import { openOrtBackend, type OrtBackendOptions } from "./ort/ort-backend.ts";

/** `c`: onnxruntime's C API through koffi. `node`: onnxruntime-node's own API, where koffi has no build for the platform. */
export type Runtime = "c" | "node";

export function runtimeOf(value: string | undefined): Runtime {
  return value === "node" ? "node" : "c";
}

export function openBackend(options: OrtBackendOptions, runtime: Runtime = runtimeOf(process.env["DRYAPI_RUNTIME"])): Backend {
  if (runtime === "c") return openOrtBackend(options);
  const { device, profileDir } = options;
  // Where nodes go it does not say.
  return openNodeBackend({ device, ...(profileDir !== undefined && { profileDir }) });
}
