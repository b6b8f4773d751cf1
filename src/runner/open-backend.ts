import type { Backend } from "../pipelines/backend.ts";
import { AppError } from "../protocol/error.ts";
import { openNodeBackend } from "./node-backend.ts";
import { openOrtBackend, type OrtBackendOptions } from "./ort/ort-backend.ts";

/** `c`: onnxruntime's C API through koffi. `node`: onnxruntime-node's own API, where koffi has no build for the platform. */
export type Runtime = "c" | "node";

export function runtimeOf(value: string | undefined): Runtime {
  return value === "node" ? "node" : "c";
}

export function openBackend(options: OrtBackendOptions, runtime: Runtime = runtimeOf(process.env["DRYAPI_RUNTIME"])): Backend {
  if (runtime === "c") return openOrtBackend(options);
  const { device, profileDir, logPlacement } = options;
  const backend = openNodeBackend({
    device,
    ...(profileDir !== undefined && { profileDir }),
    ...(logPlacement !== undefined && { logPlacement }),
  });
  return { ...backend, open: async (path) => backend.open(withoutOptions(path, options)) };
}

/** onnxruntime-node passes none of the options on. @throws AppError MODEL_UNSUPPORTED when there are some */
function withoutOptions(path: string, { runtime }: OrtBackendOptions): string {
  const asked = Object.keys(runtime?.(path) ?? {});
  if (asked.length === 0) return path;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `${path} has runtime options (${asked.join(", ")}), which DRYAPI_RUNTIME=node cannot pass on: unset DRYAPI_RUNTIME, or take them out of the manifest and DRYAPI_RUNTIME_OPTIONS`,
  );
}
