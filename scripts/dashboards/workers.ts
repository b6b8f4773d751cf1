import { lines, quantile, stat, type Dashboard } from "./panel.ts";

const MINE = '{instance=~"$instance"}';
const OF_MODEL = '{instance=~"$instance", model=~"$model"}';

export const WORKERS: Dashboard = {
  uid: "dryapi-workers",
  title: "dryapi workers",
  variables: [
    { name: "instance", label: "Worker", query: 'label_values(dryapi_build_info{program="worker"}, instance)' },
    { name: "model", label: "Model", query: "label_values(dryapi_claims_total, model)" },
  ],
  panels: [
    stat("Workers", "Those that are chosen and scraped.", `count(dryapi_build_info{program="worker", instance=~"$instance"})`),
    stat("Ready", "Those whose /readyz is 200.", `sum(dryapi_ready{program="worker", instance=~"$instance"})`),
    stat(
      "Redis answers",
      "Workers whose test write works.",
      `sum(dryapi_redis_up${MINE} * on (job, instance) dryapi_build_info{program="worker"})`,
    ),
    stat("Draining", "Workers on their way to their end.", `sum(dryapi_draining${MINE})`),
    stat(
      "Jobs a minute",
      "Completed.",
      `60 * sum(rate(dryapi_jobs_total{end="completed", instance=~"$instance", model=~"$model"}[$__rate_interval]))`,
    ),
    stat("Claims a minute", "More than jobs: some claims go back.", `60 * sum(rate(dryapi_claims_total${OF_MODEL}[$__rate_interval]))`),
    lines("Jobs a minute by end", "How claims ended.", {
      "{{end}}": `60 * sum by (end) (rate(dryapi_jobs_total${OF_MODEL}[$__rate_interval]))`,
    }),
    lines("Waiting jobs by model", "As workers see the queues.", { "{{model}}": `max by (model) (dryapi_queue_waiting${OF_MODEL})` }),
    lines(
      "Age of the next job",
      "How long it has waited.",
      { "{{model}}": `max by (model) (dryapi_queue_oldest_seconds${OF_MODEL})` },
      "s",
    ),
    lines(
      "Queue wait",
      "From submit to the first claim.",
      {
        "p50 {{model}}": quantile(0.5, "dryapi_job_queue_wait_seconds", ["model"], OF_MODEL),
        "p95 {{model}}": quantile(0.95, "dryapi_job_queue_wait_seconds", ["model"], OF_MODEL),
      },
      "s",
    ),
    lines(
      "Job time",
      "From claim to end, of jobs that completed.",
      {
        "p50 {{model}}": quantile(0.5, "dryapi_job_seconds", ["model"], '{end="completed", instance=~"$instance", model=~"$model"}'),
        "p95 {{model}}": quantile(0.95, "dryapi_job_seconds", ["model"], '{end="completed", instance=~"$instance", model=~"$model"}'),
      },
      "s",
    ),
    lines(
      "Stage time, p50",
      "Where the time goes.",
      { "{{model}} {{stage}}": quantile(0.5, "dryapi_stage_seconds", ["model", "stage"], OF_MODEL) },
      "s",
    ),
    lines(
      "Step time",
      "One denoising step.",
      {
        "p50 {{model}}": quantile(0.5, "dryapi_step_seconds", ["model"], OF_MODEL),
        "p99 {{model}}": quantile(0.99, "dryapi_step_seconds", ["model"], OF_MODEL),
      },
      "s",
    ),
    lines(
      "Load time, p95",
      "From the start of a runner until it is ready.",
      { "{{model}} on {{device}}": quantile(0.95, "dryapi_model_load_seconds", ["model", "device"], OF_MODEL) },
      "s",
    ),
    lines("Runners by state", "Processes that hold a model.", { "{{state}}": `sum by (state) (dryapi_runners${MINE})` }),
    lines(
      "Device memory",
      "By all processes on the device, where the driver tells.",
      { "{{instance}} {{device}} {{kind}}": `dryapi_device_memory_bytes${MINE}` },
      "bytes",
    ),
    lines("Devices out of service", "Should be 0; see DryapiDeviceQuarantined in docs/alerts.md.", {
      "{{instance}} {{device}}": `dryapi_device_quarantined${MINE}`,
    }),
    lines("Crashes and failed loads an hour", "Runners that ended without being told to, or never became ready.", {
      "crash: {{reason}}": `3600 * sum by (reason) (rate(dryapi_runner_crashes_total${OF_MODEL}[$__rate_interval]))`,
      "load: {{code}}": `3600 * sum by (code) (rate(dryapi_model_load_failures_total${OF_MODEL}[$__rate_interval]))`,
    }),
    lines("Retries and lost locks an hour", "Jobs that go back into their queue, by why.", {
      "{{reason}}": `3600 * sum by (reason) (rate(dryapi_job_retries_total${MINE}[$__rate_interval]))`,
      "lock lost": `3600 * sum(rate(dryapi_lock_losses_total${OF_MODEL}[$__rate_interval]))`,
    }),
    lines("Failures an hour by code", "Jobs that failed for good; docs/errors.md has the codes.", {
      "{{code}} ({{blame}})": `3600 * sum by (code, blame) (rate(dryapi_job_failures_total${MINE}[$__rate_interval]))`,
    }),
    lines("Previews a second", "Dropped: a newer one was there first.", {
      "{{result}}": `sum by (result) (rate(dryapi_previews_total${MINE}[$__rate_interval]))`,
    }),
    lines(
      "Uploads",
      "Bytes of results a second.",
      { "{{instance}}": `sum by (instance) (rate(dryapi_upload_bytes_total${MINE}[$__rate_interval]))` },
      "Bps",
    ),
    lines(
      "Upload time, p95",
      "Until one file was stored, its retries included.",
      { "{{instance}}": quantile(0.95, "dryapi_upload_seconds", ["instance"], MINE) },
      "s",
    ),
    lines("Uploads tried again a minute", "Should be 0: the store is away or refuses.", {
      "{{code}}": `60 * sum by (code) (rate(dryapi_upload_retries_total${MINE}[$__rate_interval]))`,
    }),
    lines("Finished jobs that wait for their upload", "Grows while the store is away.", {
      "{{instance}}": `dryapi_uploads_waiting${MINE}`,
    }),
    lines(
      "Spool",
      "At no room nothing is claimed.",
      {
        "used {{instance}}": `dryapi_spool_bytes${MINE}`,
        "room {{instance}}": `dryapi_spool_room_bytes${MINE}`,
        "disk free {{instance}}": `dryapi_spool_free_bytes${MINE}`,
      },
      "bytes",
    ),
    lines(
      "Event loop delay",
      "Tens of milliseconds are normal; seconds cost locks.",
      {
        "{{instance}} {{at}}": `dryapi_event_loop_delay_seconds${MINE} * on (job, instance) group_left () dryapi_build_info{program="worker"}`,
      },
      "s",
    ),
    lines(
      "Daemon memory",
      "The daemon alone; its runners are processes of their own.",
      { "{{instance}}": `process_resident_memory_bytes${MINE} * on (job, instance) dryapi_build_info{program="worker"}` },
      "bytes",
    ),
    lines("Objects swept an hour", "By why they went.", {
      "{{reason}}": "3600 * sum by (reason) (rate(dryapi_store_swept_total[$__rate_interval]))",
    }),
    lines("Rounds of the sweep an hour", "One program at a time sweeps for all.", {
      "{{result}}": "3600 * sum by (result) (rate(dryapi_store_sweeps_total[$__rate_interval]))",
    }),
    lines("Bytes swept an hour", "", { bytes: "3600 * sum(rate(dryapi_store_swept_bytes_total[$__rate_interval]))" }, "bytes"),
  ],
};
