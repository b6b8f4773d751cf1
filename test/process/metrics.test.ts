import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { PROGRAMS, type MetricRow, type Program } from "../../src/telemetry/metric-row.ts";
import { METRIC_TABLE } from "../../src/telemetry/metric-table.ts";
import { startCourier, type CourierProcess } from "../support/courier-process.ts";
import { addClient, ApiClient, endOf, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
const ROWS: readonly MetricRow[] = Object.values(METRIC_TABLE);

async function scrape(admin: string): Promise<string> {
  return (await fetch(`${admin}/metrics`)).text();
}

/** The value of a series as it stands in the text; undefined when it is not there. */
function valueOf(body: string, series: string): number | undefined {
  const line = body.split("\n").find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

function adminOf({ lines }: { readonly lines: readonly Readonly<Record<string, unknown>>[] }): string {
  return String(lines.find(({ msg }) => msg === "metrics and health")?.["admin"]);
}

function programsIn(body: string): readonly string[] {
  return [...body.matchAll(/^dryapi_build_info\{program="(\w+)"/gm)].map(([, program]) => program ?? "");
}

/** Prometheus' own judge of a page; it also has words for what Node's and prom-client's own metrics are called. */
async function promtoolCheck(body: string): Promise<readonly string[]> {
  const child = spawn("promtool", ["check", "metrics"], { stdio: ["pipe", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part: string) => (text += part));
  const closed = new Promise<void>((resolve, reject) => child.once("error", reject).once("close", () => resolve()));
  child.stdin.end(body);
  await closed;
  return text.split("\n").filter((line) => line !== "" && !/^(nodejs|process)_/.test(line));
}

function assertOwn(body: string, programs: readonly Program[]): void {
  const found = [...body.matchAll(/^# TYPE (dryapi_\w+) /gm)].map(([, name]) => name ?? "");
  const own = ROWS.filter((row) => row.programs.some((program) => programs.includes(program))).map(({ name }) => name);
  assert.deepEqual(found.toSorted(), own.toSorted());
  assert.deepEqual(programsIn(body), programs);
}

describe("what each program exports", () => {
  let system: TestSystem;
  let worker: WorkerProcess;
  let gateway: GatewayProcess;
  let courier: CourierProcess;
  let api: ApiClient;

  before(async () => {
    system = await startSystem();
    gateway = await startGateway(system, { DRYAPI_COURIER: "off" });
    api = new ApiClient(gateway.url, await addClient(system));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await courier[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  async function until(admin: string, series: string, wanted: (value: number) => boolean): Promise<void> {
    let seen: number | undefined;
    const look = async (): Promise<true | undefined> => {
      seen = valueOf(await scrape(admin), series);
      return seen !== undefined && wanted(seen) ? true : undefined;
    };
    await system.until(series, look, () => seen);
  }

  test("a gateway tells the work that waits when there is no worker at all", async () => {
    const admin = adminOf(gateway);
    for (let n = 0; n < 3; n += 1) await system.submit({ model: "tiny-flux-schnell" });
    await until(admin, 'dryapi_queue_waiting{model="tiny-flux-schnell"}', (value) => value === 3);
    const body = await scrape(admin);
    // None of its jobs has ended: a minute for each.
    assert.equal(valueOf(body, 'dryapi_queue_work_seconds{model="tiny-flux-schnell"}'), 180);
    assert.equal(valueOf(body, 'dryapi_model_workers{model="tiny-flux-schnell"}'), 0);
    assert.equal(valueOf(body, 'dryapi_queue_work_seconds{model="tiny-flux-dev"}'), 0);
  });

  test("worker, gateway and courier export their own metrics alone, and Prometheus has nothing to say against them", async () => {
    worker = await system.startWorker();
    courier = await startCourier(system);
    for (const [admin, program] of [
      [worker.admin, "worker"],
      [adminOf(gateway), "gateway"],
      [adminOf(courier), "courier"],
    ] as const) {
      await until(admin, "dryapi_redis_up", (value) => value === 1);
      await until(admin, `dryapi_ready{program="${program}"}`, (value) => value === 1);
      const body = await scrape(admin);
      assertOwn(body, [program]);
      assert.deepEqual(await promtoolCheck(body), []);
    }
  });

  test("what may be counted is there at 0: of models, routes and reasons", async () => {
    const atWorker = await scrape(worker.admin);
    for (const series of [
      'dryapi_runner_crashes_total{model="fake",reason="crash"}',
      'dryapi_jobs_total{model="fake-b",end="failed"}',
      'dryapi_job_seconds_count{model="fake-b",end="completed"}',
      'dryapi_model_load_failures_total{model="fake",code="LOAD_TIMEOUT"}',
      'dryapi_job_retries_total{reason="hand-back"}',
      'dryapi_device_quarantined{device="cpu:0"}',
    ])
      assert.equal(valueOf(atWorker, series), 0, series);
    const atGateway = await scrape(adminOf(gateway));
    for (const series of [
      'dryapi_http_requests_total{method="POST",route="/api/v1/client/txt2img",status="500"}',
      'dryapi_http_request_seconds_count{route="/api/v1/client/txt2img"}',
      'dryapi_submits_total{task="txt2img",model="fake"}',
      'dryapi_rate_limited_total{type="minute"}',
    ])
      assert.equal(valueOf(atGateway, series), 0, series);
    assert.equal(valueOf(await scrape(adminOf(courier)), 'dryapi_webhook_attempts_total{event="job.failed",result="failed"}'), 0);
  });

  test("a failure is counted by its code and whose fault it was", async () => {
    const prompt = { model: "fake", prompt: "x", width: 64, height: 64, steps: 1 };
    assert.equal((await endOf(system, api, await api.submit("txt2img", prompt)))["status"], "done");
    const id = await system.submit({ model: "fake", params: { steps: 2, fault: { at: "denoise", step: 1, kind: "throw" } } });
    assert.equal((await system.ended("fake", id)).state, "failed");
    const series = /^dryapi_job_failures_total\{code="(\w+)",blame="(\w+)"\} 1$/m.exec(await scrape(worker.admin));
    assert.ok(series !== null);
    await until(adminOf(gateway), 'dryapi_model_workers{model="fake"}', (value) => value === 1);
  });

  test("a Redis that is gone is told by all three", async () => {
    await system.killRedis();
    const admins = [worker.admin, adminOf(gateway), adminOf(courier)];
    for (const admin of admins) await until(admin, "dryapi_redis_up", (value) => value === 0);
    assert.equal(valueOf(await scrape(worker.admin), 'dryapi_ready{program="worker"}'), 0);
    await system.restartRedis();
    for (const admin of admins) await until(admin, "dryapi_redis_up", (value) => value === 1);
  });

  test("a gateway with its courier exports both programs' metrics, each once", async () => {
    await using both = await startGateway(system);
    const body = await scrape(adminOf(both));
    assertOwn(body, ["gateway", "courier"]);
    assert.deepEqual(await promtoolCheck(body), []);
  });
});

test("`dryapi up` exports what its three programs have on one page, each series once", async () => {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-up-metrics-"));
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: dir,
    DRYAPI_STATE_DIR: join(dir, "state"),
    DRYAPI_DEVICE: "cpu",
    DRYAPI_MODELS: "fake",
    DRYAPI_ADMIN_PORT: "0",
    DRYAPI_HTTP_PORT: "0",
    DRYAPI_LOG_FORMAT: "json",
  };
  const up = spawn(process.execPath, [CLI, "up"], { env, stdio: ["ignore", "ignore", "pipe"] });
  const exited = new Promise<void>((resolve) => up.once("exit", () => resolve()));
  try {
    const { promise: admin, resolve, reject } = Promise.withResolvers<string>();
    void exited.then(() => reject(new Error("`dryapi up` ended before its worker was ready")));
    createInterface({ input: up.stderr }).on("line", (line) => {
      const { msg, admin: url } = JSON.parse(line) as { readonly msg?: string; readonly admin?: string };
      if (msg === "worker ready") resolve(String(url));
    });
    const body = await scrape(await admin);
    assertOwn(body, PROGRAMS);
    assert.deepEqual(await promtoolCheck(body), []);
    const series = body.split("\n").flatMap((line) => (line === "" || line.startsWith("#") ? [] : [line.slice(0, line.lastIndexOf(" "))]));
    assert.equal(new Set(series).size, series.length);
    assert.equal(valueOf(body, "dryapi_redis_up"), 1);
  } finally {
    up.kill("SIGTERM");
    await exited;
    await rm(dir, { recursive: true, force: true });
  }
});

test("there is a metric of each program", () => {
  for (const program of PROGRAMS) assert.ok(ROWS.some(({ programs }) => programs.length === 1 && programs[0] === program));
});
