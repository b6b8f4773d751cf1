import { join } from "node:path";
import { findOrtLibrary } from "../../lib/ort-files.ts";

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
  "MALLOC_MMAP_THRESHOLD_",
  "DRYAPI_FFMPEG_DIR",
  "DRYAPI_RUNTIME",
];
const KEPT_PREFIXES: readonly string[] = ["CUDA_", "NVIDIA_", "VK_"];

/**
 * glibc takes blocks of this size or more from the system and gives them back at once. By default it raises its bound with each block that is
 * freed, to 32 MiB: weights come from its heaps then, which keep what is free between what is not. A model of 1.4 GiB by turns held 1.6 to 2.5 GiB
 * so, and 0.8 GiB with a bound that stays (scripts/verify stages); the runs took as long.
 */
const MMAP_THRESHOLD = String(4 * 1024 ** 2);

/** Where `dryapi fetch-cuda` puts onnxruntime's GPU libraries unless told otherwise. */
const DEFAULT_ORT_DIR: string = join(import.meta.dirname, "..", "..", "..", ".dryapi", "cuda");

/** Where onnxruntime's GPU libraries are looked for and put: DRYAPI_ORT_DIR, else the script's default. It need not exist. */
export function ortDir(env: Env): string {
  return givenOrtDir(env) ?? DEFAULT_ORT_DIR;
}

/** DRYAPI_ORT_DIR; null when it is not set. */
export function givenOrtDir(env: Env): string | null {
  const given = env["DRYAPI_ORT_DIR"];
  return given === undefined || given === "" ? null : given;
}

/** The folder whose onnxruntime a runner loads in the place of the npm package's; null = that one. The default folder is for `cuda` alone. */
export function usedOrtDir(env: Env, kind: string): string | null {
  const dir = givenOrtDir(env) ?? (kind === "cuda" ? DEFAULT_ORT_DIR : null);
  return dir === DEFAULT_ORT_DIR && findOrtLibrary(dir) === null ? null : dir;
}

/**
 * LD_LIBRARY_PATH of a runner on a GPU: onnxruntime's folder first (the CUDA libraries of `dryapi fetch-cuda` lie there, and
 * onnxruntime-node's own API must find that library before the npm package's), then the CUDA libraries, then what was set.
 */
export function libraryPath(env: Env): string {
  return joined(ortDir(env), env["DRYAPI_CUDA_LIBS"], env["LD_LIBRARY_PATH"]);
}

function joined(...parts: readonly (string | null | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== null && part !== "").join(":");
}

/** The whole environment of a runner. `cuda` devices get the GPU libraries; others the npm package's onnxruntime unless DRYAPI_ORT_DIR is set. */
export function runnerEnv(env: Env, device: { readonly kind: string }): Record<string, string> {
  const kept = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && (KEPT.includes(entry[0]) || KEPT_PREFIXES.some((prefix) => entry[0].startsWith(prefix))),
  );
  const libraries = device.kind === "cuda" ? libraryPath(env) : joined(givenOrtDir(env), env["LD_LIBRARY_PATH"]);
  const dir = usedOrtDir(env, device.kind);
  return {
    // nvidia-smi counts in this order, CUDA's own default is by speed: without it `cuda:1` may be another card than the one measured.
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    MALLOC_MMAP_THRESHOLD_: MMAP_THRESHOLD,
    ...Object.fromEntries(kept),
    ...(libraries === "" ? {} : { LD_LIBRARY_PATH: libraries }),
    ...(dir === null ? {} : { DRYAPI_ORT_DIR: dir }),
    // onnxruntime phones home unless this is set before its library is loaded.
    ORT_DISABLE_TELEMETRY: "1",
    // Each run of a session holds a thread of libuv's pool, which fs, dns and sharp need as well: more of them than a pipeline has sessions.
    UV_THREADPOOL_SIZE: "16",
    // CPU runners compete with the daemon for cores: its event loop comes first.
    ...(device.kind === "cpu" ? { DRYAPI_NICE: "10" } : {}),
    DRYAPI_PARENT_PID: String(process.pid),
  };
}
