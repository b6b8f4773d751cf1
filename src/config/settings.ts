import { hostname } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { GATEWAY_SETTINGS } from "./gateway-settings.ts";
import { bytes, duration, durationOrNever, flag, integer, oneOf, path, redisUrl, text, url } from "./parsers.ts";
import { ALL, DAEMON, has, may, REDIS, RUN, type Env, type Setting } from "./setting.ts";
import { WORK_SETTINGS } from "./work-settings.ts";

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
  ...WORK_SETTINGS,
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
