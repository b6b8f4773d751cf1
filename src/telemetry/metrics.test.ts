import assert from "node:assert/strict";
import { test } from "node:test";
import { exportHealth } from "./export-health.ts";
import { initialSets, PROGRAMS, type MetricRow } from "./metric-row.ts";
import { METRIC_TABLE } from "./metric-table.ts";
import { createMetrics } from "./metrics.ts";

const ROWS: readonly MetricRow[] = Object.values(METRIC_TABLE);

/** The names of our metrics that a text declares. */
function namesIn(body: string): readonly string[] {
  return [...body.matchAll(/^# TYPE (dryapi_\w+) /gm)].map(([, name]) => name ?? "").toSorted();
}

/** Series by their name and labels. */
function seriesIn(body: string): ReadonlyMap<string, string> {
  const lines = body.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]));
}

for (const program of PROGRAMS) {
  test(`a ${program} exports its own metrics and no other's, and says what it is`, async () => {
    using metrics = createMetrics({ programs: [program], version: "1", name: "n" });
    const { body } = await metrics.scrape();
    const own = ROWS.filter(({ programs }) => programs.includes(program)).map(({ name }) => name);
    assert.deepEqual(namesIn(body), own.toSorted());
    assert.match(body, new RegExp(`^dryapi_build_info\\{program="${program}",version="1",node="${process.version}",name="n"\\} 1$`, "m"));
  });
}

test("a process of several programs has each series once, and tells each of them", async () => {
  using metrics = createMetrics({ programs: PROGRAMS, version: "1", name: "n" });
  const { body } = await metrics.scrape();
  assert.deepEqual(namesIn(body), ROWS.map(({ name }) => name).toSorted());
  assert.equal(seriesIn(body).size, body.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length);
  for (const program of PROGRAMS) assert.match(body, new RegExp(`^dryapi_build_info\\{program="${program}",`, "m"));
});

test("counters and histograms of closed labels are there at 0 before anything is counted", async () => {
  using metrics = createMetrics({ programs: PROGRAMS, version: "1", name: "n" });
  metrics.setModels("worker", ["tiny"]);
  metrics.setModels("gateway", ["tiny"]);
  const series = seriesIn((await metrics.scrape()).body);
  for (const row of ROWS) {
    const suffix = row.kind === "histogram" ? "_count" : "";
    for (const set of initialSets(row, ["tiny"])) {
      const labels = Object.entries(set).map(([label, value]) => `${label}="${value}"`);
      const name = labels.length === 0 ? `${row.name}${suffix}` : `${row.name}${suffix}{${labels.join(",")}}`;
      assert.equal(series.get(name), "0", name);
    }
  }
  assert.equal(series.get('dryapi_runner_crashes_total{model="tiny",reason="crash"}'), "0");
  assert.equal(series.get('dryapi_job_failures_total{code="POISON_JOB",blame="client"}'), "0");
});

test("each metric has known labels: series of every model are there from the start, or can not be", () => {
  for (const row of ROWS.filter(({ kind }) => kind !== "gauge")) {
    const isOpen = Object.values(row.labels).includes("any");
    assert.ok(isOpen || initialSets(row, ["m"]).length > 0, row.name);
  }
});

test("what was counted before its model was announced is not set back, and a model that comes back goes on", async () => {
  using metrics = createMetrics({ programs: ["worker"], version: "1", name: "n" });
  metrics.claims.inc({ model: "tiny" });
  metrics.stepSeconds.observe({ model: "tiny" }, 1);
  metrics.setModels("worker", ["tiny"]);
  metrics.setModels("worker", []);
  metrics.setModels("worker", ["tiny"]);
  const { body } = await metrics.scrape();
  assert.match(body, /^dryapi_claims_total\{model="tiny"\} 1$/m);
  assert.match(body, /^dryapi_step_seconds_count\{model="tiny"\} 1$/m);
});

test("gauges of a model go with it, once no program of the process has it, though a late look sets them again", async () => {
  using metrics = createMetrics({ programs: ["worker", "gateway"], version: "1", name: "n" });
  const setAll = (): void => {
    for (const model of ["a", "b"]) metrics.queueWaiting.set({ model }, 7);
  };
  metrics.setModels("worker", ["a"]);
  metrics.setModels("gateway", ["a", "b"]);
  setAll();
  metrics.setModels("worker", []);
  assert.match((await metrics.scrape()).body, /^dryapi_queue_waiting\{model="a"\} 7$/m);
  metrics.setModels("gateway", ["b"]);
  setAll();
  metrics.setModels("gateway", ["b"]);
  const { body } = await metrics.scrape();
  assert.doesNotMatch(body, /dryapi_queue_waiting\{model="a"\}/);
  assert.match(body, /^dryapi_queue_waiting\{model="b"\} 7$/m);
});

test("a gauge that cannot be set, or not in time, costs the scrape nothing else", async () => {
  const errors: string[] = [];
  const onError = (thrown: unknown): void => void errors.push(String(thrown));
  using metrics = createMetrics({ programs: ["gateway"], version: "1", name: "n", updateMs: 20, onError });
  metrics.onScrape(() => Promise.reject(new Error("broken")));
  metrics.onScrape(() => new Promise(() => undefined));
  metrics.onScrape(() => metrics.sockets.set(3));
  assert.match((await metrics.scrape()).body, /^dryapi_sockets 3$/m);
  assert.deepEqual(errors.toSorted(), ["Error: a gauge was not set within 20 ms", "Error: broken"]);
});

test("readiness and Redis are exported as last seen, and not ready before the first look", async () => {
  using metrics = createMetrics({ programs: ["worker"], version: "1", name: "n" });
  let redis: { readonly ok: boolean } | null = null;
  exportHealth(metrics, "worker", { redis: () => redis, ready: (seen) => ({ ok: seen.ok, checks: {} }) });
  const both = async (): Promise<readonly (string | undefined)[]> => {
    const series = seriesIn((await metrics.scrape()).body);
    return [series.get("dryapi_redis_up"), series.get('dryapi_ready{program="worker"}')];
  };
  assert.deepEqual(await both(), ["0", "0"]);
  redis = { ok: true };
  assert.deepEqual(await both(), ["1", "1"]);
  redis = { ok: false };
  assert.deepEqual(await both(), ["0", "0"]);
});
