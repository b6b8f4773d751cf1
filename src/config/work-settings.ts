import type { MemoryShare } from "../core/device-fit.ts";
import { runtimeOptionsSchema, type RuntimeOptions } from "../protocol/runtime-options.ts";
import { bytes, duration, durationOrNever, flag, integer, json, list, memoryShare, namedPaths, oneOf, path, text } from "./parsers.ts";
import { ALL, DAEMON, has, may, RUN, SERVE, type Setting } from "./setting.ts";

const slug = text("a model slug", /^[A-Za-z0-9][A-Za-z0-9._-]{1,63}$/);

/** Settings of the work itself: models, devices and jobs. */
export const WORK_SETTINGS = {
  modelsDirs: has<readonly string[]>({
    env: "DRYAPI_MODELS_DIR",
    group: "Models",
    parser: list(":", path, "paths of folders"),
    fallback: "",
    fallbackText: "none: only the models that come with the package",
    meaning: "Folders with one sub-folder per model; earlier ones win, all win over the models of the package.",
    programs: ALL,
  }),
  models: may<readonly string[]>({
    env: "DRYAPI_MODELS",
    group: "Models",
    parser: list(",", slug, "slugs of models"),
    fallbackText: "all that are available, but for test models",
    meaning:
      "The only models that this worker serves. A name of which there is no manifest is an error at the start; one whose files are not there yet is served once they are.",
    programs: SERVE,
  }),
  testModels: has<boolean>({
    env: "DRYAPI_TEST_MODELS",
    group: "Models",
    parser: flag,
    fallback: "off",
    fallbackText: "off; on in `dryapi up`",
    meaning:
      "Also serve and offer test models (`status: test_model` in the manifest, such as the tiny-* of the package) that DRYAPI_MODELS does not name.",
    programs: SERVE,
  }),
  pinnedModels: may<readonly string[]>({
    env: "DRYAPI_PINNED_MODELS",
    group: "Models",
    parser: list(",", slug, "slugs of models"),
    fallbackText: "none",
    meaning:
      "Models that are loaded at the start and stay: never stopped for being idle, never evicted. While one of them cannot be served, the worker is not ready.",
    programs: RUN,
  }),
  idleUnloadMs: has<number | null>({
    env: "DRYAPI_IDLE_UNLOAD_MS",
    group: "Models",
    parser: durationOrNever(1_000),
    fallback: "10m",
    meaning: "A model that was unused for so long is unloaded.",
    programs: RUN,
  }),
  embeddingCacheBytes: has<number>({
    env: "DRYAPI_EMBEDDING_CACHE_BYTES",
    group: "Models",
    parser: bytes(0),
    fallback: "256MiB",
    meaning: "Per loaded model: embeddings of earlier prompts, so that a repeated prompt skips the text encoders. 0 turns it off.",
    programs: RUN,
  }),
  device: has<"auto" | "cuda" | "webgpu" | "cpu">({
    env: "DRYAPI_DEVICE",
    group: "Devices",
    parser: oneOf(["auto", "cuda", "webgpu", "cpu"]),
    fallback: "auto",
    meaning:
      "What models run on. auto = cuda where driver and libraries are there, else cpu, unless DRYAPI_DEVICES names GPUs. A GPU that was asked for and does not work is an error, never a silent CPU.",
    programs: RUN,
  }),
  devices: may<readonly number[]>({
    env: "DRYAPI_DEVICES",
    group: "Devices",
    parser: list(",", integer(0, 255), "GPU numbers as nvidia-smi shows them"),
    fallbackText: "all",
    meaning:
      "The GPUs to use, e.g. 0,1. Naming GPUs asks for them: without one of them the worker does not start. Where CUDA_VISIBLE_DEVICES is set, 0 is the first that it names.",
    programs: RUN,
  }),
  deviceReserveBytes: has<number>({
    env: "DRYAPI_DEVICE_RESERVE_BYTES",
    group: "Devices",
    parser: bytes(0),
    fallback: "512MiB",
    meaning: "Memory of each device (of the machine for cpu) that models never get.",
    programs: RUN,
  }),
  deviceBudget: may<MemoryShare>({
    env: "DRYAPI_DEVICE_BUDGET",
    group: "Devices",
    parser: memoryShare,
    fallbackText: "all of the device but DRYAPI_DEVICE_RESERVE_BYTES",
    meaning:
      "Memory that models may use on each device (of the machine for cpu), in all: 8GiB, or 80% of what the device has. A model of stages that does not fit as a whole has its parts on the device by turns; docs/tuning.md says what that costs.",
    programs: RUN,
  }),
  cpuThreads: has<number>({
    env: "DRYAPI_CPU_THREADS",
    group: "Devices",
    parser: integer(0, 1_024),
    fallback: "0",
    meaning: "Threads of a model on the CPU. 0 = all cores but one, which the daemon keeps.",
    programs: RUN,
  }),
  runtime: has<"auto" | "c" | "node">({
    env: "DRYAPI_RUNTIME",
    group: "Devices",
    parser: oneOf(["auto", "c", "node"]),
    fallback: "auto",
    meaning:
      "How onnxruntime is called. c = its C API (through koffi): runs do not block and end when told. node = onnxruntime-node's own API, which can do neither. auto = c, and node where koffi cannot be loaded, which the log tells.",
    programs: RUN,
  }),
  ortDir: may<string>({
    env: "DRYAPI_ORT_DIR",
    group: "Devices",
    parser: path,
    fallbackText: "the npm package's own; on GPUs .dryapi/cuda in the package's folder, where `dryapi fetch-cuda` puts the libraries",
    meaning:
      "Folder with the onnxruntime to use, on any device: libonnxruntime.so.1, .so or .so.1.<version>, 1.24 or later, and for GPUs libonnxruntime_providers_cuda.so of the same version.",
    programs: RUN,
  }),
  runtimeOptions: may<RuntimeOptions>({
    env: "DRYAPI_RUNTIME_OPTIONS",
    group: "Devices",
    parser: json(runtimeOptionsSchema, 'JSON such as {"cuda":{"gpu_mem_limit":8589934592}}'),
    fallbackText: "unset: what the models' manifests say",
    meaning:
      "Options of onnxruntime for every model of this worker, in the form of a manifest's `runtime`; they stand before the manifest's. docs/tuning.md lists them.",
    programs: RUN,
  }),
  epLibraries: may<Readonly<Record<string, string>>>({
    env: "DRYAPI_EP_LIBRARIES",
    group: "Devices",
    parser: namedPaths,
    fallbackText: "none",
    meaning:
      "Libraries of plugin execution providers, as name=path, separated by commas. They are code that runs in the runners. One is loaded where `providers` of the runtime options names it.",
    programs: RUN,
  }),
  ffmpegDir: may<string>({
    env: "DRYAPI_FFMPEG_DIR",
    group: "Devices",
    parser: path,
    fallbackText: "unset: ffmpeg and ffprobe are found in the PATH",
    meaning: "Folder of ffmpeg and ffprobe, which audio and video models need.",
    programs: RUN,
  }),
  cudaLibs: may<string>({
    env: "DRYAPI_CUDA_LIBS",
    group: "Devices",
    parser: text('folders, separated by ":"'),
    fallbackText: "the system's",
    meaning: "Folders with the CUDA and cuDNN libraries, put into the runners' library path.",
    programs: RUN,
  }),
  maxSourceBytes: has<number>({
    env: "DRYAPI_MAX_SOURCE_BYTES",
    group: "Jobs",
    parser: bytes(1),
    fallback: "2GiB",
    meaning: "Largest file that is downloaded from a URL of a client's (transcription); uploads have the API's own limits.",
    programs: RUN,
  }),
  lockMs: has<number>({
    env: "DRYAPI_LOCK_MS",
    group: "Jobs",
    parser: duration(2_000, 600_000),
    fallback: "30s",
    meaning: "How long a claim holds without renewal; another worker (or courier) takes over a lost host's jobs (or webhooks) after it.",
    programs: DAEMON,
  }),
  stalledIntervalMs: has<number>({
    env: "DRYAPI_STALLED_INTERVAL_MS",
    group: "Jobs",
    parser: duration(500, 600_000),
    fallback: "30s",
    meaning: "How often it looks for jobs (webhooks) of lost hosts.",
    programs: DAEMON,
  }),
  maxStalled: has<number>({
    env: "DRYAPI_MAX_STALLED",
    group: "Jobs",
    parser: integer(0, 100),
    fallback: "3",
    meaning: "How often a job may lose its host before it fails as STALLED.",
    programs: RUN,
  }),
  maxAttempts: has<number>({
    env: "DRYAPI_MAX_ATTEMPTS",
    group: "Jobs",
    parser: integer(1, 100),
    fallback: "3",
    meaning: "Runs of a job that may fail before it fails for good. Shutdown and hand-back spend none.",
    programs: ["worker", "up", "submit", "doctor"],
  }),
  jobTimeoutMs: has<number>({
    env: "DRYAPI_JOB_TIMEOUT_MS",
    group: "Jobs",
    parser: duration(1_000),
    fallback: "30m",
    meaning: "Longest run of a job, from its first dispatch on; written into the job at submit.",
    programs: ["up", "submit"],
  }),
  unservableMs: has<number>({
    env: "DRYAPI_UNSERVABLE_MS",
    group: "Jobs",
    parser: duration(100),
    fallback: "10m",
    meaning:
      "How long a job waits for a model that every live worker with it reports as unusable, before it fails with their reason. Repair the files meanwhile and it runs.",
    programs: RUN,
  }),
  cancelGraceMs: has<number>({
    env: "DRYAPI_CANCEL_GRACE_MS",
    group: "Jobs",
    parser: duration(0, 600_000),
    fallback: "3s",
    meaning: "How long work for a cancelled job may go on before its runner is killed. A step that others share ends first.",
    programs: RUN,
  }),
  shutdownGraceMs: has<number>({
    env: "DRYAPI_SHUTDOWN_GRACE_MS",
    group: "Jobs",
    parser: duration(0, 86_400_000),
    fallback: "60s",
    meaning: "How long running jobs may go on after SIGTERM before they are handed back to the front of their queue.",
    programs: RUN,
  }),
  starvationMs: has<number>({
    env: "DRYAPI_STARVATION_MS",
    group: "Jobs",
    parser: duration(1_000),
    fallback: "2m",
    meaning: "A model whose oldest job waits longer than this beats a model that is loaded.",
    programs: RUN,
  }),
  previews: has<boolean>({
    env: "DRYAPI_PREVIEWS",
    group: "Jobs",
    parser: flag,
    fallback: "on",
    meaning: "Publish small previews of the picture while it is made (at most 4 a second and 16 KiB each).",
    programs: RUN,
  }),
} as const satisfies Record<string, Setting<unknown>>;
