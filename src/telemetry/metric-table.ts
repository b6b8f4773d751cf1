import { ERROR_TABLE, type ErrorCode } from "../protocol/error.ts";
import { WEBHOOK_EVENTS } from "../protocol/webhook.ts";
import { counter, gauge, histogram, PROGRAMS, type MetricRow } from "./metric-row.ts";

/** Seconds. A step of a tiny model takes milliseconds, one of a video model a minute. */
const STEP_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const STAGE_S = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const WAIT_S = [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600];
const LOAD_S = [0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600];
const UPLOAD_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const HTTP_S = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

const WORKER = ["worker"] as const;
const GATEWAY = ["gateway"] as const;
const COURIER = ["courier"] as const;
/** Both see the queues, and either may sweep the object store. */
const BOTH = ["worker", "gateway"] as const;

const CODES = Object.keys(ERROR_TABLE) as readonly ErrorCode[];
/** Why a job goes back into its queue: what the table retries, an absent device, and what costs no attempt. */
const RETRY_CODES = CODES.filter((code) => ERROR_TABLE[code].retry === "backoff" || code === "DEVICE_UNAVAILABLE");
const LOAD_CODES = [
  "MODEL_CORRUPT",
  "MODEL_UNSUPPORTED",
  "LOAD_TIMEOUT",
  "RUNNER_CRASHED",
  "DEVICE_UNAVAILABLE",
  "DEVICE_FAILED",
  "OUT_OF_MEMORY",
  "PIPELINE_FAILED",
  "IPC_MISMATCH",
  "INTERNAL",
] as const satisfies readonly ErrorCode[];

/** Every metric of every program, once: the registries and docs/metrics.md come from here. */
export const METRIC_TABLE = {
  buildInfo: gauge(
    PROGRAMS,
    "dryapi_build_info",
    { program: "any", version: "any", node: "any", name: "any" },
    "Always 1; what runs here.",
  ),
  ready: gauge(PROGRAMS, "dryapi_ready", { program: "any" }, "1 while the program can work, as /readyz says of it."),
  redisUp: gauge(PROGRAMS, "dryapi_redis_up", {}, "1 while a test write to Redis works, as last tried (every 5 s)."),
  eventLoopDelaySeconds: gauge(
    PROGRAMS,
    "dryapi_event_loop_delay_seconds",
    { at: ["p50", "p99", "max"] },
    "Delay of the process' event loop since the last scrape: median, 99th percentile and longest.",
  ),
  jobs: counter(
    WORKER,
    "dryapi_jobs_total",
    { model: "model", end: ["completed", "failed", "cancelled", "requeued", "lost"] },
    "Claims by how they ended.",
  ),
  jobFailures: counter(
    WORKER,
    "dryapi_job_failures_total",
    { code: "any", blame: "any" },
    "Jobs that failed for good, by error code and whose fault that is: client, model, machine or upstream.",
    CODES.map((code) => ({ code, blame: ERROR_TABLE[code].blame })),
  ),
  claims: counter(WORKER, "dryapi_claims_total", { model: "model" }, "Jobs claimed."),
  queueWaitSeconds: histogram(
    WORKER,
    "dryapi_job_queue_wait_seconds",
    { model: "model" },
    WAIT_S,
    "Time from submit to the first claim of a job.",
  ),
  jobSeconds: histogram(
    WORKER,
    "dryapi_job_seconds",
    { model: "model", end: { first: ["completed"], later: ["failed", "cancelled", "requeued"] } },
    STAGE_S,
    "Time from claim to end of a job.",
  ),
  modelLoadSeconds: histogram(
    WORKER,
    "dryapi_model_load_seconds",
    { model: "any", device: "any" },
    LOAD_S,
    "Time from the start of a runner until it is ready; a series is there from a model's first load on a device.",
  ),
  modelLoadFailures: counter(
    WORKER,
    "dryapi_model_load_failures_total",
    { model: "model", code: { first: LOAD_CODES, later: CODES } },
    "Runners that never became ready, by error code.",
  ),
  stageSeconds: histogram(
    WORKER,
    "dryapi_stage_seconds",
    { model: "model", stage: { first: ["input", "run", "encode", "upload"], later: "any" } },
    STAGE_S,
    "Time of a job per stage: input, run, encode, upload; of a batch per stage of its pipeline.",
  ),
  stepSeconds: histogram(WORKER, "dryapi_step_seconds", { model: "model" }, STEP_S, "Time of one denoising step."),
  runners: gauge(WORKER, "dryapi_runners", { state: ["starting", "ready", "busy", "draining"] }, "Runner processes by state."),
  models: gauge(
    WORKER,
    "dryapi_models",
    { state: ["available", "missing", "corrupt", "unsupported", "unequipped", "invalid"] },
    "Models that this worker is meant to serve, by what is known of their files: `dryapi models list` names each with what to do.",
  ),
  runnerCrashes: counter(
    WORKER,
    "dryapi_runner_crashes_total",
    {
      model: "model",
      reason: { first: ["crash", "fatal", "load-timeout", "stage-timeout", "protocol"], later: ["cancel", "killed", "stopped"] },
    },
    "Runners that ended without being told to, by reason.",
  ),
  deviceMemoryBytes: gauge(
    WORKER,
    "dryapi_device_memory_bytes",
    { device: "any", kind: ["used", "total"] },
    "Memory of a device; used where it can be read.",
  ),
  deviceQuarantined: gauge(
    WORKER,
    "dryapi_device_quarantined",
    { device: "any" },
    "1 while a device is out of service: not proved yet, a proof, ping or load failed, or different jobs met faults on it.",
  ),
  lockLosses: counter(WORKER, "dryapi_lock_losses_total", { model: "model" }, "Claims whose lock was lost to another worker or to expiry."),
  jobRetries: counter(
    WORKER,
    "dryapi_job_retries_total",
    { reason: { first: [...RETRY_CODES, "pass-on", "postpone", "hand-back"], later: CODES } },
    "Jobs put back for another try, by error code or reason.",
  ),
  uploadBytes: counter(WORKER, "dryapi_upload_bytes_total", {}, "Bytes of results stored."),
  uploadSeconds: histogram(WORKER, "dryapi_upload_seconds", {}, UPLOAD_S, "Time until one result file was stored, retries included."),
  uploadRetries: counter(
    WORKER,
    "dryapi_upload_retries_total",
    { code: { first: ["STORAGE_UNAVAILABLE", "STORAGE_REJECTED"], later: CODES } },
    "Uploads tried again, by error code.",
  ),
  uploadsWaiting: gauge(WORKER, "dryapi_uploads_waiting", {}, "Finished claims in the spool whose files are not stored yet."),
  previews: counter(WORKER, "dryapi_previews_total", { result: ["sent", "dropped", "oversize"] }, "Preview frames."),
  spoolBytes: gauge(WORKER, "dryapi_spool_bytes", {}, "Bytes in the spool."),
  spoolFreeBytes: gauge(WORKER, "dryapi_spool_free_bytes", {}, "Free bytes on the spool's disk."),
  spoolRoomBytes: gauge(
    WORKER,
    "dryapi_spool_room_bytes",
    {},
    "Bytes until DRYAPI_SPOOL_MAX_BYTES or DRYAPI_SPOOL_MIN_FREE_BYTES is met; at 0 nothing is claimed.",
  ),
  draining: gauge(WORKER, "dryapi_draining", {}, "1 from the first SIGTERM on."),
  queueWaiting: gauge(BOTH, "dryapi_queue_waiting", { model: "model" }, "Jobs that wait in a model's queue, as last seen."),
  queueOldestSeconds: gauge(
    BOTH,
    "dryapi_queue_oldest_seconds",
    { model: "model" },
    "How long the next job of a model has waited, as far as this process saw.",
  ),
  queueWorkSeconds: gauge(
    GATEWAY,
    "dryapi_queue_work_seconds",
    { model: "model" },
    "Seconds of work that wait for a model: waiting jobs times what a job of it took lately, 60 s where none has ended yet.",
  ),
  modelWorkers: gauge(GATEWAY, "dryapi_model_workers", { model: "model" }, "Live workers that serve a model, those that drain left out."),
  sweptObjects: counter(
    BOTH,
    "dryapi_store_swept_total",
    { reason: ["ended-input", "unnamed-output", "unknown-request", "unfinished-upload", "check"] },
    "Objects that the sweep deleted, by why.",
  ),
  sweptBytes: counter(BOTH, "dryapi_store_swept_bytes_total", {}, "Bytes that the sweep deleted from the object store."),
  storeSweeps: counter(
    BOTH,
    "dryapi_store_sweeps_total",
    { result: ["done", "partial", "failed"] },
    "Rounds of the object store's sweep; done: the whole store, partial: it goes on.",
  ),
  httpRequests: counter(
    GATEWAY,
    "dryapi_http_requests_total",
    { method: "any", route: "any", status: "any" },
    "Answers of the gateway; each route has 200, 500 and 503 from the start.",
  ),
  httpSeconds: histogram(GATEWAY, "dryapi_http_request_seconds", { route: "any" }, HTTP_S, "Time of the gateway until an answer was sent."),
  submits: counter(GATEWAY, "dryapi_submits_total", { task: "any", model: "any" }, "Requests accepted by the gateway."),
  rateLimited: counter(GATEWAY, "dryapi_rate_limited_total", { type: ["minute", "daily"] }, "Submits refused for their rate."),
  requestsRepaired: counter(GATEWAY, "dryapi_requests_repaired_total", {}, "Requests whose job was missing and was added again."),
  sockets: gauge(GATEWAY, "dryapi_sockets", {}, "Open sockets of this gateway."),
  socketFrames: counter(
    GATEWAY,
    "dryapi_socket_frames_total",
    { result: ["sent", "dropped"] },
    "Events for sockets; dropped: a slow socket gets the newest only.",
  ),
  socketsDismissed: counter(
    GATEWAY,
    "dryapi_sockets_dismissed_total",
    { reason: ["full", "late", "displaced"] },
    "Sockets closed for a limit: the gateway's, no subscription in time, displaced by a newer one before its subscription.",
  ),
  webhookAttempts: counter(
    COURIER,
    "dryapi_webhook_attempts_total",
    { event: WEBHOOK_EVENTS, result: ["delivered", "retry", "failed"] },
    "Attempts to deliver a webhook; failed is the last one.",
  ),
  webhookSeconds: histogram(
    COURIER,
    "dryapi_webhook_seconds",
    { result: ["delivered", "retry", "failed"] },
    HTTP_S,
    "Time until a webhook's receiver answered or was given up.",
  ),
  webhooksWaiting: gauge(COURIER, "dryapi_webhooks_waiting", {}, "Webhooks that are due and not being delivered, as last seen."),
} as const satisfies Record<string, MetricRow>;

export type MetricName = keyof typeof METRIC_TABLE;
