export interface MetricRow<L extends string = string> {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly name: string;
  readonly labels: readonly L[];
  readonly help: string;
  /** Upper bounds, of histograms only. */
  readonly buckets?: readonly number[];
}

interface CounterRow<L extends string> extends MetricRow<L> {
  readonly kind: "counter";
}
interface GaugeRow<L extends string> extends MetricRow<L> {
  readonly kind: "gauge";
}
interface HistogramRow<L extends string> extends MetricRow<L> {
  readonly kind: "histogram";
  readonly buckets: readonly number[];
}

const counter = <const L extends string = never>(name: string, labels: readonly L[], help: string): CounterRow<L> => ({
  kind: "counter",
  name,
  labels,
  help,
});
const gauge = <const L extends string = never>(name: string, labels: readonly L[], help: string): GaugeRow<L> => ({
  kind: "gauge",
  name,
  labels,
  help,
});
const histogram = <const L extends string = never>(
  name: string,
  labels: readonly L[],
  buckets: readonly number[],
  help: string,
): HistogramRow<L> => ({
  kind: "histogram",
  name,
  labels,
  buckets,
  help,
});

/** Seconds. A step of a tiny model takes milliseconds, one of a video model a minute. */
const STEP_S = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const STAGE_S = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const WAIT_S = [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600];
const LOAD_S = [0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600];
const UPLOAD_S = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const HTTP_S = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

/** Every metric of a worker, once: the registries and docs/metrics.md come from here. */
export const METRIC_TABLE = {
  jobs: counter("dryapi_jobs_total", ["model", "end"], "Claims by how they ended: completed, failed, cancelled, requeued, lost."),
  claims: counter("dryapi_claims_total", ["model"], "Jobs claimed."),
  queueWaitSeconds: histogram("dryapi_job_queue_wait_seconds", ["model"], WAIT_S, "Time from submit to the first claim of a job."),
  jobSeconds: histogram("dryapi_job_seconds", ["model", "end"], STAGE_S, "Time from claim to end of a job."),
  modelLoadSeconds: histogram(
    "dryapi_model_load_seconds",
    ["model", "device"],
    LOAD_S,
    "Time from the start of a runner until it is ready.",
  ),
  modelLoadFailures: counter("dryapi_model_load_failures_total", ["model", "code"], "Runners that never became ready, by error code."),
  stageSeconds: histogram("dryapi_stage_seconds", ["model", "stage"], STAGE_S, "Time of a job per stage: input, run, encode, upload."),
  stepSeconds: histogram("dryapi_step_seconds", ["model"], STEP_S, "Time of one denoising step."),
  runners: gauge("dryapi_runners", ["state"], "Runner processes by state: starting, ready, busy, draining."),
  runnerCrashes: counter("dryapi_runner_crashes_total", ["model", "reason"], "Runners that ended without being told to, by reason."),
  deviceMemoryBytes: gauge("dryapi_device_memory_bytes", ["device", "kind"], "Memory of a device; kind is used or total."),
  deviceQuarantined: gauge(
    "dryapi_device_quarantined",
    ["device"],
    "1 while a device is taken out of service after faults of different jobs.",
  ),
  lockLosses: counter("dryapi_lock_losses_total", ["model"], "Claims whose lock was lost to another worker or to expiry."),
  jobRetries: counter("dryapi_job_retries_total", ["reason"], "Jobs put back for another try, by error code or reason."),
  uploadBytes: counter("dryapi_upload_bytes_total", [], "Bytes of results stored."),
  uploadSeconds: histogram("dryapi_upload_seconds", [], UPLOAD_S, "Time until one result file was stored, retries included."),
  uploadRetries: counter("dryapi_upload_retries_total", ["code"], "Uploads tried again, by error code."),
  uploadsWaiting: gauge("dryapi_uploads_waiting", [], "Finished claims in the spool whose files are not stored yet."),
  sweptObjects: counter(
    "dryapi_store_swept_total",
    ["reason"],
    "Objects that the sweep deleted; reason is ended-input, unnamed-output, unknown-request, unfinished-upload or check.",
  ),
  sweptBytes: counter("dryapi_store_swept_bytes_total", [], "Bytes that the sweep deleted from the object store."),
  previews: counter("dryapi_previews_total", ["result"], "Preview frames; result is sent, dropped or oversize."),
  queueWaiting: gauge("dryapi_queue_waiting", ["model"], "Jobs that wait in a model's queue, as last seen."),
  queueOldestSeconds: gauge(
    "dryapi_queue_oldest_seconds",
    ["model"],
    "How long the next job of a model has waited, as far as this worker saw.",
  ),
  spoolBytes: gauge("dryapi_spool_bytes", [], "Bytes in the spool."),
  spoolFreeBytes: gauge("dryapi_spool_free_bytes", [], "Free bytes on the spool's disk."),
  httpRequests: counter("dryapi_http_requests_total", ["method", "route", "status"], "Answers of the gateway."),
  httpSeconds: histogram("dryapi_http_request_seconds", ["route"], HTTP_S, "Time of the gateway until an answer was sent."),
  submits: counter("dryapi_submits_total", ["task", "model"], "Requests accepted by the gateway."),
  rateLimited: counter("dryapi_rate_limited_total", ["type"], "Submits refused for their rate; type is minute or daily."),
  requestsRepaired: counter("dryapi_requests_repaired_total", [], "Requests whose job was missing and was added again."),
  sockets: gauge("dryapi_sockets", [], "Open sockets of this gateway."),
  socketFrames: counter(
    "dryapi_socket_frames_total",
    ["result"],
    "Events for sockets; result is sent or dropped (a slow socket gets the newest only).",
  ),
  socketsDismissed: counter(
    "dryapi_sockets_dismissed_total",
    ["reason"],
    "Sockets closed for a limit; reason is full (the gateway), late (no subscription in time) or displaced (by a newer one, before its subscription).",
  ),
  redisUp: gauge("dryapi_redis_up", [], "1 while Redis answers."),
  draining: gauge("dryapi_draining", [], "1 from the first SIGTERM on."),
  eventLoopDelaySeconds: gauge(
    "dryapi_event_loop_delay_seconds",
    ["quantile"],
    "Delay of the daemon's event loop since the last scrape, at quantiles 0.5, 0.99 and 1 (the longest).",
  ),
  webhookAttempts: counter(
    "dryapi_webhook_attempts_total",
    ["event", "result"],
    "Attempts to deliver a webhook; result is delivered, retry, or failed for the last one.",
  ),
  webhookSeconds: histogram("dryapi_webhook_seconds", ["result"], HTTP_S, "Time until a webhook's receiver answered or was given up."),
  webhooksWaiting: gauge("dryapi_webhooks_waiting", [], "Webhooks that are due and not being delivered, as last seen."),
  buildInfo: gauge("dryapi_build_info", ["version", "node", "worker"], "Always 1; what runs here."),
} as const satisfies Record<string, MetricRow>;

export type MetricName = keyof typeof METRIC_TABLE;
