import { hostname } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { GATEWAY_SETTINGS } from "./gateway-settings.ts";
import { bytes, duration, durationOrNever, flag, integer, list, oneOf, path, redisUrl, text, url } from "./parsers.ts";
import { ALL, DAEMON, has, may, REDIS, RUN, SERVE, type Env, type Setting } from "./setting.ts";

const slug = text("a model slug", /^[A-Za-z0-9][A-Za-z0-9._-]{1,63}$/);
const stateDirOf = (env: Env): string =>
  env["STATE_DIRECTORY"]?.split(":")[0] ?? join(env["XDG_STATE_HOME"] ?? join(env["HOME"] ?? "/var/lib", ".local", "state"), "dryapi");

/**
 * Every setting, once: `readConfig`, `dryapi config`, the help texts and docs/settings.md all come from here. An empty variable
 * counts as unset, so that an EnvironmentFile may list them all. `stateDir` stands first because other defaults build on it.
 */
export const SETTINGS = {
  stateDir: has<string>({
    env: "DRYAPI_STATE_DIR",
    group: "Places",
    parser: path,
    fallback: ({ env }) => stateDirOf(env),
    fallbackText: "$STATE_DIRECTORY (systemd), else ~/.local/state/dryapi",
    meaning:
      "Folder for what must survive a restart: digests of verified models, the private Redis of `dryapi up`, the default spool and store.",
    programs: ALL,
  }),
  spoolDir: has<string>({
    env: "DRYAPI_SPOOL_DIR",
    group: "Places",
    parser: path,
    fallback: ({ stateDir }) => join(stateDir, "spool"),
    fallbackText: "spool in the state folder",
    meaning: "Where outputs wait for their upload. One daemon per folder; a local disk, never a tmpfs.",
    programs: RUN,
  }),
  spoolMaxBytes: has<number>({
    env: "DRYAPI_SPOOL_MAX_BYTES",
    group: "Places",
    parser: bytes(1_048_576),
    fallback: "20GiB",
    meaning: "Most bytes in the spool; above it no more jobs are claimed until uploads catch up.",
    programs: RUN,
  }),
  spoolMinFreeBytes: has<number>({
    env: "DRYAPI_SPOOL_MIN_FREE_BYTES",
    group: "Places",
    parser: bytes(0),
    fallback: "1GiB",
    meaning: "Least free space to leave on the spool's disk; below it no more jobs are claimed.",
    programs: RUN,
  }),
  redisUrl: may<string>({
    env: "REDIS_URL",
    group: "Redis",
    parser: redisUrl,
    fallbackText: "unset: `dryapi up` starts a private redis-server, `dryapi worker` refuses to start",
    meaning: "The Redis that holds queues and request records. Needs 6.2 or newer, maxmemory-policy noeviction and AOF.",
    hidePassword: true,
    programs: REDIS,
  }),
  namespace: has<string>({
    env: "DRYAPI_NAMESPACE",
    group: "Redis",
    parser: text("1 to 32 of A-Z a-z 0-9 _ -", /^[A-Za-z0-9_-]{1,32}$/),
    fallback: "dryapi",
    meaning: "Hash tag in front of every Redis key; separate systems on one Redis need different ones.",
    programs: REDIS,
  }),
  retentionMs: has<number>({
    env: "DRYAPI_RETENTION_MS",
    group: "Redis",
    parser: duration(60_000),
    fallback: "72h",
    meaning: "How long request records and finished jobs are kept.",
    programs: REDIS,
  }),
  storeUrl: has<string>({
    env: "DRYAPI_STORE",
    group: "Object store",
    parser: url(["file:", "s3:"], "file:///srv/dryapi or s3://bucket/prefix?endpoint=https://host"),
    fallback: ({ stateDir }) => pathToFileURL(join(stateDir, "objects")).href,
    fallbackText: "file: folder objects in the state folder",
    meaning: "Where inputs and results live. All programs of one system must name the same store.",
    hidePassword: true,
    programs: REDIS,
  }),
  s3Endpoint: may<string>({
    env: "DRYAPI_S3_ENDPOINT",
    group: "Object store",
    parser: url(["http:", "https:"], "https://s3.example.org:9000"),
    fallbackText: "unset: AWS itself, or what the store's URL says",
    meaning: "Server of an s3: store that is not AWS.",
    programs: REDIS,
  }),
  s3PublicEndpoint: may<string>({
    env: "DRYAPI_S3_PUBLIC_ENDPOINT",
    group: "Object store",
    parser: url(["http:", "https:"], "https://files.example.org"),
    fallbackText: "the same endpoint",
    meaning: "Base of the signed links when clients reach the store under another name than this machine does.",
    programs: REDIS,
  }),
  s3ForcePathStyle: may<boolean>({
    env: "DRYAPI_S3_FORCE_PATH_STYLE",
    group: "Object store",
    parser: flag,
    fallbackText: "on with a custom endpoint",
    meaning: "Put the bucket into the path instead of the host name.",
    programs: REDIS,
  }),
  s3Region: may<string>({
    env: "AWS_REGION",
    group: "Object store",
    parser: text("a region such as eu-central-1", /^[A-Za-z0-9-]{1,64}$/),
    fallbackText: "the AWS chain; us-east-1 with a custom endpoint",
    meaning: "Region of an s3: store.",
    programs: REDIS,
  }),
  sweepMs: has<number | null>({
    env: "DRYAPI_SWEEP_MS",
    group: "Object store",
    parser: durationOrNever(1_000),
    fallback: "1h",
    meaning:
      "Pause between two sweeps, which delete from the store what no request needs any more; one gateway or worker at a time sweeps. never turns it off.",
    programs: ["worker", "gateway", "up"],
  }),
  maxConcurrentUploads: has<number>({
    env: "DRYAPI_MAX_CONCURRENT_UPLOADS",
    group: "Object store",
    parser: integer(1, 64),
    fallback: "4",
    meaning: "Files that go up at the same time.",
    programs: RUN,
  }),
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
  cpuThreads: has<number>({
    env: "DRYAPI_CPU_THREADS",
    group: "Devices",
    parser: integer(0, 1_024),
    fallback: "0",
    meaning: "Threads of a model on the CPU. 0 = all cores but one, which the daemon keeps.",
    programs: RUN,
  }),
  ortDir: may<string>({
    env: "DRYAPI_ORT_DIR",
    group: "Devices",
    parser: path,
    fallbackText: ".dryapi/cuda in the package's folder, where `dryapi fetch-cuda` puts them",
    meaning: "Folder with onnxruntime's GPU libraries (libonnxruntime.so.1, libonnxruntime_providers_cuda.so).",
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
    meaning: "How long a cancelled job may go on before its runner is killed.",
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
  ...GATEWAY_SETTINGS,
  workerName: has<string>({
    env: "DRYAPI_WORKER_NAME",
    group: "Daemon",
    parser: text("1 to 64 of A-Z a-z 0-9 . _ -", /^[A-Za-z0-9._-]{1,64}$/),
    fallback: () =>
      hostname()
        .replaceAll(/[^A-Za-z0-9._-]/g, "-")
        .slice(0, 64) || "worker",
    fallbackText: "the host name",
    meaning: "Name of this worker in logs, results and load intents. Two daemons on one host need different ones.",
    programs: RUN,
  }),
  adminHost: has<string>({
    env: "DRYAPI_ADMIN_HOST",
    group: "Daemon",
    parser: text("a host name or address", /^[A-Za-z0-9.:_-]+$/),
    fallback: "127.0.0.1",
    meaning: "Address that /metrics, /healthz and /readyz listen on. It has no authentication: keep it private.",
    programs: DAEMON,
  }),
  adminPort: has<number>({
    env: "DRYAPI_ADMIN_PORT",
    group: "Daemon",
    parser: integer(0, 65_535),
    fallback: "9464",
    meaning: "Port of the same. 0 takes any free one (it is logged).",
    programs: DAEMON,
  }),
  logLevel: has<"trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent">({
    env: "DRYAPI_LOG_LEVEL",
    group: "Daemon",
    parser: oneOf(["trace", "debug", "info", "warn", "error", "fatal", "silent"]),
    fallback: "info",
    meaning: "Least level of log lines.",
    programs: ALL,
  }),
  logFormat: has<"json" | "text">({
    env: "DRYAPI_LOG_FORMAT",
    group: "Daemon",
    parser: oneOf(["json", "text"]),
    fallback: "json",
    meaning: "json: one object a line. text: for people.",
    programs: DAEMON,
  }),
} as const satisfies Record<string, Setting<unknown>>;

export type SettingName = keyof typeof SETTINGS;

export interface ForeignSetting {
  readonly env: string;
  readonly group: string;
  readonly meaning: string;
  readonly secret: boolean;
}

/** Variables that a library reads by itself: documented and redacted here, never held in a Config, so that no log can hold them. */
export const FOREIGN_SETTINGS: readonly ForeignSetting[] = [
  {
    env: "AWS_ACCESS_KEY_ID",
    group: "Object store",
    meaning: "Key of an s3: store. Without it the AWS chain is asked: profile, IRSA, Pod Identity, instance role.",
    secret: true,
  },
  { env: "AWS_SECRET_ACCESS_KEY", group: "Object store", meaning: "Its secret.", secret: true },
  { env: "AWS_SESSION_TOKEN", group: "Object store", meaning: "Its session token, for temporary keys.", secret: true },
];
