import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { startAdminServer, type AdminServer, type AdminServerOptions, type HealthReport } from "./admin-server.ts";
import { createMetrics } from "./metrics.ts";

const FINE: HealthReport = { ok: true, checks: { loop: { ok: true } } };

async function start(options: Partial<AdminServerOptions> = {}): Promise<AdminServer> {
  const metrics = { scrape: async () => ({ contentType: "text/plain", body: "x 1\n" }) };
  return startAdminServer({ host: "127.0.0.1", port: 0, metrics, health: () => FINE, ready: () => FINE, ...options });
}

test("metrics are served in the exposition format, with gauges set at the scrape", async () => {
  using metrics = createMetrics({ programs: ["worker"], version: "1.2.3", name: "w" });
  metrics.onScrape(() => metrics.queueWaiting.set({ model: "tiny" }, 4));
  metrics.onScrape(() => assert.fail("a broken gauge"));
  metrics.jobs.inc({ model: "tiny", end: "completed" });
  await using server = await start({ metrics });
  const response = await fetch(`${server.url}/metrics`);
  const body = await response.text();
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  assert.match(body, /^dryapi_jobs_total\{model="tiny",end="completed"\} 1$/m);
  assert.match(body, /^dryapi_queue_waiting\{model="tiny"\} 4$/m);
  assert.match(body, /^dryapi_build_info\{program="worker",version="1\.2\.3",.*name="w"\} 1$/m);
  assert.match(body, /^dryapi_event_loop_delay_seconds\{at="p99"\} /m);
});

test("healthz is 200 while readyz says 503 with its reasons", async () => {
  const reasons: HealthReport = { ok: false, checks: { redis: { ok: false, detail: "no answer for 12 s" } } };
  await using server = await start({ ready: async () => reasons });
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
  const response = await fetch(`${server.url}/readyz?verbose`);
  assert.equal(response.status, 503);
  assert.deepEqual(await response.json(), reasons);
});

test("a check that throws or hangs is a failed check, not a hanging request", async () => {
  const hangs = new Promise<HealthReport>(() => {});
  await using server = await start({ health: () => Promise.reject(new Error("broken")), ready: () => hangs, checkTimeoutMs: 20 });
  const health = await fetch(`${server.url}/healthz`);
  assert.equal(health.status, 503);
  assert.match(await health.text(), /broken/);
  const ready = await fetch(`${server.url}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /no answer within 20 ms/);
});

test("unknown pages are 404, other methods 405, HEAD has no body", async () => {
  await using server = await start();
  assert.equal((await fetch(`${server.url}/`)).status, 404);
  assert.equal((await fetch(`${server.url}/constructor`)).status, 404);
  const post = await fetch(`${server.url}/metrics`, { method: "POST" });
  assert.equal(post.status, 405);
  assert.equal(post.headers.get("allow"), "GET, HEAD");
  const head = await fetch(`${server.url}/healthz`, { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), "");
});

test("a taken port is a clear configuration error", async () => {
  await using server = await start();
  await assert.rejects(
    () => start({ port: server.port }),
    (thrown) => thrown instanceof AppError && thrown.code === "CONFIG_INVALID" && /DRYAPI_ADMIN_PORT/.test(thrown.message),
  );
});
