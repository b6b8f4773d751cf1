import { findOrtLibrary, ORT_NAMES, whyNotForNode } from "../lib/ort-files.ts";
import type { Backend } from "../pipelines/backend.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { openNodeBackend } from "./node-backend.ts";
import { loadKoffi } from "./ort/koffi.ts";
import { openOrtBackend, type OrtBackendOptions } from "./ort/ort-backend.ts";

/**
 * DRYAPI_RUNTIME. `c`: onnxruntime's C API through koffi. `node`: onnxruntime-node's own API. `auto`: the C API, and onnxruntime-node's where
 * koffi cannot be loaded.
 */
export type Runtime = "auto" | "c" | "node";

export interface ChosenRuntime {
  readonly api: "c" | "node";
  /** The library of DRYAPI_ORT_DIR; null = the npm package's own. */
  readonly library: string | null;
  /** Why `auto` is `node`. */
  readonly fallback?: string;
}

const LOST = "runs block the runner and cannot be ended, and nothing stays on the device between runs";

let opened: ChosenRuntime | null = null;

/** What the backends of this process run on; null when none was opened. */
export function openedRuntime(): ChosenRuntime | null {
  return opened;
}

/** As the daemon has read the same text (config/work-settings.ts), which refuses any other. */
export function runtimeOf(value: string | undefined): Runtime {
  const lower = value?.toLowerCase();
  return lower === "node" || lower === "c" ? lower : "auto";
}

/** @throws AppError DEVICE_UNAVAILABLE: DRYAPI_RUNTIME=c without koffi, or DRYAPI_ORT_DIR without a library */
export function chooseRuntime(
  runtime: Runtime = runtimeOf(process.env["DRYAPI_RUNTIME"]),
  dir: string | undefined = process.env["DRYAPI_ORT_DIR"],
): ChosenRuntime {
  const library = libraryOf(dir);
  if (runtime === "node") return { api: "node", library };
  try {
    loadKoffi();
    return { api: "c", library };
  } catch (thrown) {
    const { code, message } = asAppError(thrown);
    if (runtime === "c")
      throw new AppError(code, `DRYAPI_RUNTIME=c: ${message}; set auto or node, or install the package anew`, { cause: thrown });
    return { api: "node", library, fallback: `${message}; onnxruntime-node's own API is used instead: ${LOST}` };
  }
}

/** The backend of a runner. @throws AppError as chooseRuntime */
export function openBackend(options: OrtBackendOptions, runtime?: Runtime): Backend {
  const isFirst = opened === null;
  opened = chooseRuntime(runtime);
  const { api, library, fallback } = opened;
  if (api === "c") return openOrtBackend({ ...(library !== null && { libraryPath: library }), ...options });
  if (fallback !== undefined && isFirst) process.stderr.write(`runner: ${fallback}\n`);
  const { device, profileDir } = options;
  // Where nodes go it does not say.
  const backend = openNodeBackend({ device, ...(profileDir !== undefined && { profileDir }) });
  return {
    ...backend,
    open: async (path) => {
      if (library !== null) await requireForNode(library);
      return backend.open(withoutOptions(path, options));
    },
  };
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

function libraryOf(dir: string | undefined): string | null {
  if (dir === undefined || dir === "") return null;
  const library = findOrtLibrary(dir);
  if (library !== null) return library;
  throw new AppError("DEVICE_UNAVAILABLE", `DRYAPI_ORT_DIR is ${dir}, which holds no onnxruntime: looked for ${ORT_NAMES}`);
}

/** The loader takes it by its name, and ends with an error of its own, or worse, where it is of another version. */
async function requireForNode(library: string): Promise<void> {
  const why = await whyNotForNode(library);
  if (why !== null) throw new AppError("DEVICE_UNAVAILABLE", why);
}
