import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { FOREIGN_SETTINGS, SETTINGS } from "../../src/config/settings.ts";
import type { MetricRow } from "../../src/telemetry/metric-row.ts";
import { METRIC_TABLE } from "../../src/telemetry/metric-table.ts";
import { expanded, readDashboards, type DashboardFile } from "../support/dashboards.ts";
import { startPrometheus, type LoadedRule, type Prometheus } from "../support/prometheus.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const RULES = join(ROOT, "deploy", "prometheus", "alerts.yaml");
const RULE_TESTS = join(ROOT, "test", "deploy", "alerts.test.yaml");
const exec = promisify(execFile);

const ROWS = new Map<string, MetricRow>(Object.values(METRIC_TABLE).map((row) => [row.name, row]));
/** Of Prometheus itself and of every Node process. */
const FOREIGN = new Set(["up", "process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"]);
/** What a scrape adds, and the buckets' bound. */
const SCRAPE_LABELS = ["job", "instance", "le"];

interface Asked {
  readonly metrics: readonly string[];
  readonly labels: ReadonlySet<string>;
}

/** The metrics of an expression, and the labels that it names in matchers and lists. Texts in quotes are values. */
function namesIn(expr: string): Asked {
  const bare = expr.replaceAll(/"[^"]*"/g, '""');
  const metrics = [...bare.matchAll(/\b(?:dryapi|process|up)\w*/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ""));
  const matchers = [...bare.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*""/g)].map(([, label]) => label ?? "");
  const lists = [...bare.matchAll(/\b(?:by|on|group_left|without)\s*\(([^)]*)\)/g)].flatMap(([, list]) => (list ?? "").split(","));
  return { metrics, labels: new Set([...matchers, ...lists.map((label) => label.trim())].filter(Boolean)) };
}

function assertKnown(expr: string, where: string, more: readonly string[] = []): void {
  const { metrics, labels } = namesIn(expr);
  assert.ok(metrics.length > 0, `${where}: no metric in ${expr}`);
  for (const name of metrics) assert.ok(ROWS.has(name) || FOREIGN.has(name), `${where}: there is no metric ${name}: ${expr}`);
  const known = new Set([...SCRAPE_LABELS, ...metrics.flatMap((name) => Object.keys(ROWS.get(name)?.labels ?? {}))]);
  for (const label of [...labels, ...more]) assert.ok(known.has(label), `${where}: no metric of ${expr} has a label ${label}`);
}

test("the words of an expression are found: metrics, labels of matchers and of lists", () => {
  const { metrics, labels } = namesIn(
    'sum by (le, model) (rate(dryapi_job_seconds_bucket{end="by (x)", instance=~"a"}[5m])) and on (job) up == 0',
  );
  assert.deepEqual(metrics, ["dryapi_job_seconds", "up"]);
  assert.deepEqual([...labels].toSorted(), ["end", "instance", "job", "le", "model"]);
});

describe("dashboards and alerts, before a real Prometheus", () => {
  let prometheus: Prometheus;
  let rules: readonly LoadedRule[];
  let dashboards: ReadonlyMap<string, DashboardFile>;

  before(async () => {
    prometheus = await startPrometheus({ ruleFiles: [RULES] });
    rules = await prometheus.rules();
    dashboards = await readDashboards();
  });
  after(() => prometheus[Symbol.asyncDispose]());

  test("every expression of every panel is PromQL, over metrics and labels that exist", async () => {
    for (const [file, { panels }] of dashboards) {
      for (const { title, targets } of panels) {
        for (const { expr, legendFormat } of targets) {
          const where = `${file}, ${title}`;
          assert.equal(await prometheus.complaint(expanded(expr, 15)), null, `${where}: ${expr}`);
          assertKnown(
            expr,
            where,
            [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label ?? ""),
          );
        }
      }
    }
  });

  test("every variable asks for a label of a metric that exists", () => {
    for (const [file, { templating }] of dashboards) {
      for (const { name, query } of templating.list.filter(({ type }) => type === "query")) {
        const [, selector = "", label = ""] = /^label_values\((.+), (\w+)\)$/.exec(query.query) ?? [];
        assertKnown(selector, `${file}, variable ${name}`, [label]);
      }
    }
  });

  test("every metric has a panel", () => {
    const shown = new Set(
      [...dashboards.values()].flatMap(({ panels }) =>
        panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => namesIn(expr).metrics)),
      ),
    );
    assert.deepEqual(
      [...ROWS.keys()].filter((name) => !shown.has(name)),
      [],
    );
  });

  test("no panel lies over another one or has another one's number, and each query has a letter", () => {
    for (const [file, { panels, uid }] of dashboards) {
      assert.equal(file, `${uid}.json`);
      assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length, file);
      const taken = new Set<string>();
      for (const { title, gridPos, targets } of panels) {
        assert.ok(gridPos.x >= 0 && gridPos.x + gridPos.w <= 24, `${file}, ${title}`);
        assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, `${file}, ${title}`);
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
            assert.ok(!taken.has(`${x},${y}`), `${file}, ${title} at ${x},${y}`);
            taken.add(`${x},${y}`);
          }
        }
      }
    }
  });

  test("every alert is over metrics and labels that exist, and says how bad it is and what", () => {
    assert.ok(rules.length > 20);
    for (const { name, query, labels, annotations } of rules) {
      const text = Object.values(annotations).join(" ");
      assertKnown(
        query,
        name,
        [...text.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label ?? ""),
      );
      assert.match(labels["severity"] ?? "", /^(critical|warning|info)$/, name);
      for (const wanted of ["summary", "description"]) assert.ok((annotations[wanted] ?? "").length > 10, `${name}: ${wanted}`);
      assert.equal(annotations["runbook"], `docs/alerts.md#${name.toLowerCase()}`);
    }
  });

  test("every alert has a section of the runbook that says where to look and what to do, and every section an alert", async () => {
    const runbook = await readFile(join(ROOT, "docs", "alerts.md"), "utf8");
    const sections = new Map(
      runbook
        .split("\n### ")
        .slice(1)
        .map((section) => [section.slice(0, section.indexOf("\n")), section]),
    );
    assert.deepEqual([...sections.keys()].toSorted(), rules.map(({ name }) => name).toSorted());
    for (const [name, section] of sections)
      for (const part of ["\n- Look at: ", "\n- Do: "]) assert.ok(section.includes(part), `${name}: ${part.trim()}`);
    for (const [, anchor = ""] of runbook.matchAll(/\]\(#([\w-]+)\)/g)) {
      assert.ok(
        [...sections.keys()].some((name) => name.toLowerCase() === anchor),
        anchor,
      );
    }
  });

  test("the runbook and docs/metrics.md name metrics and settings that exist", async () => {
    const settings = new Set([...Object.values(SETTINGS), ...FOREIGN_SETTINGS].map(({ env }) => env));
    for (const page of ["alerts.md", "metrics.md"]) {
      const text = await readFile(join(ROOT, "docs", page), "utf8");
      for (const [name] of text.matchAll(/\bDRYAPI_\w+/g)) assert.ok(settings.has(name), `${page}: ${name}`);
      for (const [name] of text.matchAll(/\bdryapi_\w+/g))
        assert.ok(ROWS.has(name.replace(/_(bucket|sum|count)$/, "")), `${page}: ${name}`);
    }
  });

  test("every alert is tested: quiet before its time, firing in it", async () => {
    const text = await readFile(RULE_TESTS, "utf8");
    const tests = new Map(
      text
        .split("\n  - name: ")
        .slice(1)
        .map((each) => [each.slice(0, each.indexOf("\n")), each]),
    );
    assert.deepEqual([...tests.keys()].toSorted(), rules.map(({ name }) => name).toSorted());
    for (const [name, each] of tests) {
      assert.match(each, new RegExp(`alertname: ${name}, exp_alerts: \\[\\]`), `${name} is never quiet`);
      assert.match(each, new RegExp(`alertname: ${name}\\n +exp_alerts:\\n +- exp_labels`), `${name} never fires`);
    }
    await exec("promtool", ["test", "rules", RULE_TESTS]);
  });
});

test("the operator's object holds the same rules, as Prometheus reads them", async () => {
  const text = await readFile(join(ROOT, "deploy", "prometheus", "prometheus-rule.yaml"), "utf8");
  assert.match(text, /^apiVersion: monitoring\.coreos\.com\/v1\nkind: PrometheusRule\nmetadata:\n/m);
  const spec = text.slice(text.indexOf("\nspec:\n") + "\nspec:\n".length).replaceAll(/^ {2}/gm, "");
  const rules = await readFile(RULES, "utf8");
  assert.equal(spec, rules.slice(rules.indexOf("groups:")));
});
