import { lines, quantile, stat, type Dashboard } from "./panel.ts";

const OF_MODEL = '{model=~"$model"}';

export const FLEET: Dashboard = {
  uid: "dryapi-fleet",
  title: "dryapi fleet",
  variables: [{ name: "model", label: "Model", query: "label_values(dryapi_queue_waiting, model)" }],
  panels: [
    stat("Workers", "Hosts whose daemon is scraped.", 'count(dryapi_build_info{program="worker"})'),
    stat("Workers not ready", "Should be 0.", 'count(dryapi_ready{program="worker"} == 0) or vector(0)'),
    stat("Gateways", "", 'count(dryapi_build_info{program="gateway"})'),
    stat(
      "Targets down",
      "Scraped within the last day and gone.",
      "count(up == 0 and on (job, instance) last_over_time(dryapi_build_info[1d])) or vector(0)",
    ),
    stat("Cannot write to Redis", "Programs; should be 0.", "count(dryapi_redis_up == 0) or vector(0)"),
    stat("Versions", "More than one while an upgrade goes on.", "count(count by (version) (dryapi_build_info))"),
    stat("Waiting jobs", "In all queues.", `sum(max by (model) (dryapi_queue_waiting${OF_MODEL}))`),
    stat("Work that waits", "As if one device did all of it.", `sum(max by (model) (dryapi_queue_work_seconds${OF_MODEL}))`, "s"),
    stat("Longest wait", "Of the next job of any model.", `max(dryapi_queue_oldest_seconds${OF_MODEL})`, "s"),
    stat("Jobs a minute", "Completed.", `60 * sum(rate(dryapi_jobs_total{end="completed", model=~"$model"}[$__rate_interval]))`),
    stat("Devices", "In service.", "count(dryapi_device_quarantined == 0) or vector(0)"),
    stat("Devices out of service", "Should be 0.", "sum(dryapi_device_quarantined)"),
    lines("Programs by version", "An upgrade moves them from one line to the other.", {
      "{{program}} {{version}}": "count by (program, version) (dryapi_build_info)",
    }),
    lines("Ready programs", "Workers that drain are not.", { "{{program}}": "sum by (program) (dryapi_ready)" }),
    lines("Workers by model", "Live ones that serve it.", { "{{model}}": `max by (model) (dryapi_model_workers${OF_MODEL})` }),
    lines("Models by state", "What workers are meant to serve, by what is known of their files; whoever is not available needs somebody.", {
      "{{state}}": "sum by (state) (dryapi_models)",
    }),
    lines("Waiting jobs by model", "", { "{{model}}": `max by (model) (dryapi_queue_waiting${OF_MODEL})` }),
    lines(
      "Work that waits by model",
      "Waiting jobs times what a job took lately: what an autoscaler asks for.",
      { "{{model}}": `max by (model) (dryapi_queue_work_seconds${OF_MODEL})` },
      "s",
    ),
    lines("Age of the next job", "", { "{{model}}": `max by (model) (dryapi_queue_oldest_seconds${OF_MODEL})` }, "s"),
    lines("Throughput by model", "Completed jobs a minute.", {
      "{{model}}": `60 * sum by (model) (rate(dryapi_jobs_total{end="completed", model=~"$model"}[$__rate_interval]))`,
    }),
    lines(
      "Queue wait, p95",
      "From submit to the first claim.",
      { "{{model}}": quantile(0.95, "dryapi_job_queue_wait_seconds", ["model"], OF_MODEL) },
      "s",
    ),
    lines(
      "Job time, p95",
      "From claim to end.",
      { "{{model}}": quantile(0.95, "dryapi_job_seconds", ["model"], '{end="completed", model=~"$model"}') },
      "s",
    ),
    lines("Failures an hour by code", "Jobs that failed for good, and whose fault it was.", {
      "{{code}} ({{blame}})": "3600 * sum by (code, blame) (rate(dryapi_job_failures_total[$__rate_interval]))",
    }),
    lines("Crashes, retries and lost locks an hour", "What costs work and no job.", {
      "runner crashes": `3600 * sum(rate(dryapi_runner_crashes_total${OF_MODEL}[$__rate_interval]))`,
      retries: "3600 * sum(rate(dryapi_job_retries_total[$__rate_interval]))",
      "lost locks": `3600 * sum(rate(dryapi_lock_losses_total${OF_MODEL}[$__rate_interval]))`,
      "failed loads": `3600 * sum(rate(dryapi_model_load_failures_total${OF_MODEL}[$__rate_interval]))`,
    }),
    lines("Runners by state", "Busy ones use a device.", { "{{state}}": "sum by (state) (dryapi_runners)" }),
    lines("Device memory", "Of all devices of a kind of use.", { "{{kind}}": "sum by (kind) (dryapi_device_memory_bytes)" }, "bytes"),
    lines("Finished jobs that wait for their upload", "Grows while the store is away.", { waiting: "sum(dryapi_uploads_waiting)" }),
    lines("Least room in a spool", "At 0 that host claims nothing.", { room: "min(dryapi_spool_room_bytes)" }, "bytes"),
    lines(
      "Answers of gateways",
      "A second, by status.",
      { "{{status}}": "sum by (status) (rate(dryapi_http_requests_total[$__rate_interval]))" },
      "reqps",
    ),
    lines("Accepted requests", "A minute, by model.", {
      "{{model}}": `60 * sum by (model) (rate(dryapi_submits_total${OF_MODEL}[$__rate_interval]))`,
    }),
    lines("Webhooks", "Attempts a second by result, and those that wait.", {
      "{{result}}": "sum by (result) (rate(dryapi_webhook_attempts_total[$__rate_interval]))",
      waiting: "max(dryapi_webhooks_waiting)",
    }),
  ],
};
