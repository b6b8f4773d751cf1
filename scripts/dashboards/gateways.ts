import { lines, quantile, stat, type Dashboard } from "./panel.ts";

const MINE = '{instance=~"$instance"}';

export const GATEWAYS: Dashboard = {
  uid: "dryapi-gateways",
  title: "dryapi gateways",
  variables: [{ name: "instance", label: "Gateway", query: 'label_values(dryapi_build_info{program=~"gateway|courier"}, instance)' }],
  panels: [
    stat("Gateways", "Those that are chosen and scraped.", `count(dryapi_build_info{program="gateway", instance=~"$instance"})`),
    stat("Ready", "Those whose /readyz is 200.", `sum(dryapi_ready{program="gateway", instance=~"$instance"})`),
    stat(
      "Couriers",
      "Programs that deliver webhooks, in gateways or by themselves.",
      `count(dryapi_build_info{program="courier", instance=~"$instance"})`,
    ),
    stat("Answers a second", "", `sum(rate(dryapi_http_requests_total${MINE}[$__rate_interval]))`, "reqps"),
    stat(
      "5xx",
      "Part of all answers.",
      `sum(rate(dryapi_http_requests_total{status=~"5..", instance=~"$instance"}[$__rate_interval])) / clamp_min(sum(rate(dryapi_http_requests_total${MINE}[$__rate_interval])), 1e-9)`,
      "percentunit",
    ),
    stat("Sockets", "Open now.", `sum(dryapi_sockets${MINE})`),
    lines(
      "Answers by status",
      "",
      { "{{status}}": `sum by (status) (rate(dryapi_http_requests_total${MINE}[$__rate_interval]))` },
      "reqps",
    ),
    lines(
      "Answers by route",
      "",
      { "{{method}} {{route}}": `sum by (method, route) (rate(dryapi_http_requests_total${MINE}[$__rate_interval])) > 0` },
      "reqps",
    ),
    lines(
      "Time of an answer, p95",
      "Routes that send results last as long as their clients read.",
      { "{{route}}": quantile(0.95, "dryapi_http_request_seconds", ["route"], MINE) },
      "s",
    ),
    lines(
      "Accepted requests",
      "",
      { "{{task}} {{model}}": `sum by (task, model) (rate(dryapi_submits_total${MINE}[$__rate_interval]))` },
      "reqps",
    ),
    lines(
      "Refused for their rate",
      "429 by which limit.",
      { "{{type}}": `sum by (type) (rate(dryapi_rate_limited_total${MINE}[$__rate_interval]))` },
      "reqps",
    ),
    lines("Requests repaired an hour", "Recorded and not queued: their jobs were added later. Should be 0.", {
      repaired: `3600 * sum(rate(dryapi_requests_repaired_total${MINE}[$__rate_interval]))`,
    }),
    lines("Sockets", "Open, by gateway.", { "{{instance}}": `sum by (instance) (dryapi_sockets${MINE})` }),
    lines("Sockets closed for a limit", "A second, by which limit.", {
      "{{reason}}": `sum by (reason) (rate(dryapi_sockets_dismissed_total${MINE}[$__rate_interval]))`,
    }),
    lines("Frames to sockets", "A second; dropped: a slow socket gets the newest only.", {
      "{{result}}": `sum by (result) (rate(dryapi_socket_frames_total${MINE}[$__rate_interval]))`,
    }),
    lines("Webhook attempts", "A second, by result.", {
      "{{event}} {{result}}": `sum by (event, result) (rate(dryapi_webhook_attempts_total${MINE}[$__rate_interval]))`,
    }),
    lines(
      "Time of a webhook, p95",
      "Until its receiver answered or was given up.",
      { "{{result}}": quantile(0.95, "dryapi_webhook_seconds", ["result"], MINE) },
      "s",
    ),
    lines("Webhooks that wait", "Due and not being delivered.", { waiting: `max(dryapi_webhooks_waiting${MINE})` }),
    lines(
      "Event loop delay",
      "",
      {
        "{{instance}} {{at}}": `dryapi_event_loop_delay_seconds${MINE} * on (job, instance) group_left () dryapi_build_info{program="gateway"}`,
      },
      "s",
    ),
    lines(
      "Memory",
      "",
      { "{{instance}}": `process_resident_memory_bytes${MINE} * on (job, instance) dryapi_build_info{program="gateway"}` },
      "bytes",
    ),
    lines("CPU", "Cores.", {
      "{{instance}}": `rate(process_cpu_seconds_total${MINE}[$__rate_interval]) * on (job, instance) dryapi_build_info{program="gateway"}`,
    }),
  ],
};
