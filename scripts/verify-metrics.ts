/**
 * The dashboards of deploy/grafana before a real Prometheus that scrapes two workers, a gateway with its courier and a courier of its own under
 * load, for `scripts/verify metrics`: every query of every panel has to answer with numbers, every variable with values, and the first crash,
 * failure and refusal after a start has to be seen. Prints what it found; exit 1 when a panel is empty.
 */
import { setTimeout as wait } from "node:timers/promises";
import { startCourier } from "../test/support/courier-process.ts";
import { expanded, readDashboards, type DashboardFile } from "../test/support/dashboards.ts";
import { addClient, ApiClient, startGateway } from "../test/support/gateway.ts";
import { startReceiver, type Receiver } from "../test/support/https-receiver.ts";
import { startPrometheus, type Prometheus, type ScrapeTarget, type Series } from "../test/support/prometheus.ts";
import { openPusher, subscribeUpdates } from "../test/support/pusher-client.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../test/support/system.ts";

const SCRAPE_S = 5;
/** Rates look back over four scrapes; the load has to last through several of those. */
const LOAD_MS = 75_000;
const BETWEEN_JOBS_MS = 400;
const PICTURE = { prompt: "a lighthouse", width: 64, height: 64, steps: 2 };

/** What has to be seen although it happens once or twice after the start of its program. */
const FIRSTS: Readonly<Record<string, string>> = {
  "the first crash of a runner": 'sum(increase(dryapi_runner_crashes_total{reason="crash"}[5m]))',
  "the first failures of jobs": "sum(increase(dryapi_job_failures_total[5m]))",
  "the first refusal for a rate": "sum(increase(dryapi_rate_limited_total[5m]))",
  "the first failed webhook": 'sum(increase(dryapi_webhook_attempts_total{result="retry"}[5m]))',
  "the first run of a model on its worker": "min by (model) (increase(dryapi_job_seconds_count{end='completed'}[5m]) > 0)",
};

interface Load {
  readonly system: TestSystem;
  readonly api: ApiClient;
  /** One whose rate is limited. */
  readonly hurried: ApiClient;
  readonly receiver: Receiver;
}

/** Jobs through the API and beside it, with and without webhooks, some of which fail, crash or are cancelled. */
async function putUnderLoad({ system, api, hurried, receiver }: Load): Promise<number> {
  receiver.answer = ({ path }, response) => void response.writeHead(path === "/bad" ? 500 : 200).end();
  let submitted = 0;
  const submit = async (body: object): Promise<string> => {
    submitted += 1;
    return api.submit("txt2img", { ...PICTURE, ...body });
  };
  const until = performance.now() + LOAD_MS;
  for (let n = 0; performance.now() < until; n += 1) {
    await submit({
      model: n % 3 === 0 ? "tiny-flux-dev" : "tiny-flux-schnell",
      webhook_url: `${receiver.url}/${n === 20 ? "bad" : "good"}`,
    });
    await api.get("/api/v1/client/models");
    if (n % 4 === 0) await submit({ model: "fake" });
    if (n === 30) await system.submit({ model: "fake", params: { steps: 2, fault: { at: "denoise", step: 1, kind: "segfault" } } });
    if (n === 32) await system.submit({ model: "fake-b", params: { steps: 2, fault: { at: "denoise", step: 1, kind: "throw" } } });
    if (n === 34) await api.post(`requests/${await submit({ model: "fake" })}/cancel`);
    if (n === 36) for (let again = 0; again < 3; again += 1) await hurried.post("txt2img", { ...PICTURE, model: "fake" });
    await wait(BETWEEN_JOBS_MS);
  }
  return submitted;
}

function hasNumbers(series: readonly Series[]): boolean {
  return series.some(({ values }) => values.some(([, value]) => Number.isFinite(Number(value))));
}

/** What each panel lacks, one line each. */
async function emptyPanels(prometheus: Prometheus, file: string, { panels, templating }: DashboardFile): Promise<readonly string[]> {
  const problems: string[] = [];
  let asked = 0;
  for (const { title, targets } of panels) {
    for (const { expr, legendFormat } of targets) {
      asked += 1;
      const series = await prometheus.range(expanded(expr, SCRAPE_S), LOAD_MS / 1_000, SCRAPE_S);
      if (!hasNumbers(series)) problems.push(`${file}, ${title}: no numbers from ${expr}`);
      for (const [, label = ""] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
        if (series.some(({ metric }) => metric[label] === undefined))
          problems.push(`${file}, ${title}: lines without a ${label} from ${expr}`);
      }
    }
  }
  for (const { name, type, query } of templating.list) {
    const selector = /^label_values\((.+), (\w+)\)$/.exec(query.query ?? "");
    if (type !== "query") continue;
    const values = await prometheus.now(`count by (${selector?.[2] ?? ""}) (${selector?.[1] ?? ""})`);
    if (values.length === 0) problems.push(`${file}: variable ${name} has no values`);
  }
  process.stdout.write(`${file}: ${panels.length} panels, ${asked} queries, ${problems.length} without an answer\n`);
  return problems;
}

async function missedFirsts(prometheus: Prometheus): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const [what, expr] of Object.entries(FIRSTS)) {
    const values = await prometheus.now(expr);
    if (!values.some(({ value }) => Number(value[1]) > 0)) problems.push(`${what} is not seen by ${expr}`);
  }
  const count = async (program: string): Promise<string> =>
    (await prometheus.now(`count(dryapi_build_info{program="${program}"})`))[0]?.value[1] ?? "0";
  const counts = [await count("worker"), await count("gateway"), await count("courier")].join(", ");
  if (counts !== "2, 1, 2") problems.push(`workers, gateways, couriers are counted as ${counts}, there are 2, 1, 2`);
  return problems;
}

function addressOf(admin: unknown): string {
  return new URL(String(admin)).host;
}

async function verify(stack: AsyncDisposableStack): Promise<readonly string[]> {
  const system = stack.use(await startSystem());
  const receiver = stack.use(await startReceiver());
  const egress = { NODE_EXTRA_CA_CERTS: receiver.caFile, DRYAPI_EGRESS_ALLOW: "127.0.0.0/8" };
  const gateway = stack.use(await startGateway(system, { ...egress, DRYAPI_WORKER_NAME: "g1" }));
  const courier = stack.use(await startCourier(system, { ...egress, DRYAPI_WORKER_NAME: "c1" }));
  const worker = async (name: string): Promise<WorkerProcess> =>
    system.startWorker({ DRYAPI_WORKER_NAME: name, DRYAPI_STATE_DIR: `${system.dir}/${name}` });
  const workers = [await worker("w1"), await worker("w2")];
  const adminOf = (lines: readonly Readonly<Record<string, unknown>>[]): unknown =>
    lines.find(({ msg }) => msg === "metrics and health")?.["admin"];
  const targets: readonly ScrapeTarget[] = [
    ...workers.map(({ admin }, n) => ({ address: addressOf(admin), instance: `w${n + 1}` })),
    { address: addressOf(adminOf(gateway.lines)), instance: "g1" },
    { address: addressOf(adminOf(courier.lines)), instance: "c1" },
  ];
  const prometheus = stack.use(await startPrometheus({ targets, scrapeSeconds: SCRAPE_S }));
  const key = await addClient(system);
  const pusher = openPusher({ url: gateway.url, key });
  stack.defer(() => pusher.disconnect());
  await subscribeUpdates(pusher);
  const api = new ApiClient(gateway.url, key);
  const hurried = new ApiClient(gateway.url, await addClient(system, { id: "hurried", ratePerMinute: 1 }));
  // The first samples have to be there before anything is counted, as on a host that has been up for a while.
  await wait(2 * SCRAPE_S * 1_000);
  const submitted = await putUnderLoad({ system, api, hurried, receiver });
  await wait(SCRAPE_S * 1_000);
  process.stdout.write(`${submitted} requests, ${receiver.received.length} webhooks\n`);
  const problems: string[] = [];
  for (const [file, dashboard] of await readDashboards()) problems.push(...(await emptyPanels(prometheus, file, dashboard)));
  problems.push(...(await missedFirsts(prometheus)));
  const scrapes = await prometheus.now("max by (instance) (max_over_time(scrape_duration_seconds[2m]))");
  process.stdout.write(`longest scrape, s: ${scrapes.map(({ metric, value }) => `${metric["instance"] ?? ""} ${value[1]}`).join(", ")}\n`);
  const samples = await prometheus.now("max by (instance) (scrape_samples_scraped)");
  process.stdout.write(`series: ${samples.map(({ metric, value }) => `${metric["instance"] ?? ""} ${value[1]}`).join(", ")}\n`);
  return problems;
}

await using stack = new AsyncDisposableStack();
const problems = await verify(stack);
for (const problem of problems) process.stdout.write(`${problem}\n`);
if (problems.length > 0) process.exitCode = 1;
