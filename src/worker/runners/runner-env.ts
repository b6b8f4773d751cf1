import { join } from "node:path";

type Env = Readonly<Record<string, string | undefined>>;

/** Variables that a runner needs. Everything else stays with the daemon: a child that parses model files and images gets no secret. */
const KEPT: readonly string[] = [
  "PATH",
  "HOME",
  "TMPDIR",
  "LANG",
  "LC_ALL",
  "TZ",
  "XDG_RUNTIME_DIR",
  "MALLOC_ARENA_MAX",
  "DRYAPI_FFMPEG_DIR",
  "DRYAPI_RUNTIME",
];
const KEPT_PREFIXES: readonly string[] = ["CUDA_", "NVIDIA_", "VK_"];

/** Where `dryapi fetch-cuda` puts onnxruntime's GPU libraries unless told otherwise. */
const DEFAULT_ORT_DIR: string = join(import.meta.dirname, "..", "..", "..", ".dryapi", "cuda");

/** Folder with a libonnxruntime.so.1 and its CUDA provider: DRYAPI_ORT_DIR, else the script's default. It need not exist. */
export function ortDir(env: Env): string {
  const given = env["DRYAPI_ORT_DIR"];
  return given === undefined || given === "" ? DEFAULT_ORT_DIR : given;
}

/** LD_LIBRARY_PATH of a runner: onnxruntime's folder first (it must win over the npm package's), then the CUDA libraries, then what was set. */
export function libraryPath(env: Env): string {
  const parts = [ortDir(env), env["DRYAPI_CUDA_LIBS"], env["LD_LIBRARY_PATH"]];
  return parts.filter((part) => part !== undefined && part !== "").join(":");
}

/** The whole environment of a runner. `cuda` devices get the GPU libraries; others keep the npm package's own onnxruntime. */
export function runnerEnv(env: Env, device: { readonly kind: string }): Record<string, string> {
  const kept = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && (KEPT.includes(entry[0]) || KEPT_PREFIXES.some((prefix) => entry[0].startsWith(prefix))),
  );
  const libraries = device.kind === "cuda" ? libraryPath(env) : (env["LD_LIBRARY_PATH"] ?? "");
  return {
    // nvidia-smi counts in this order, CUDA's own default is by speed: without it `cuda:1` may be another card than the one measured.
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    ...Object.fromEntries(kept),
    ...(libraries === "" ? {} : { LD_LIBRARY_PATH: libraries }),
    // onnxruntime phones home unless this is set before its library is loaded.
    ORT_DISABLE_TELEMETRY: "1",
    // Each run of a session holds a thread of libuv's pool, which fs, dns and sharp need as well: more of them than a pipeline has sessions.
    UV_THREADPOOL_SIZE: "16",
    // CPU runners compete with the daemon for cores: its event loop comes first.
    ...(device.kind === "cpu" ? { DRYAPI_NICE: "10" } : {}),
    DRYAPI_PARENT_PID: String(process.pid),
  };
}
