/** The generated parts of docs/metrics.md: what each program exports, and how many series that is. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { initialSets, PROGRAMS, type LabelValues, type MetricRow } from "../src/telemetry/metric-row.ts";
import { METRIC_TABLE } from "../src/telemetry/metric-table.ts";
import { DASHBOARDS, dashboardJson } from "./dashboards/make.ts";

const ROWS: readonly MetricRow[] = Object.values(METRIC_TABLE);

export function metricsTable(): string {
  const lines = ROWS.map(({ name, kind, programs, labels, help }) => {
    const named = Object.entries(labels).map(([label, values]) => `\`${label}\`${valuesText(values)}`);
    return `| \`${name}\` | ${kind} | ${programs.join(", ")} | ${named.join("; ")} | ${help} |`;
  });
  return ["| metric | kind | exported by | labels | meaning |", "|---|---|---|---|---|", ...lines].join("\n");
}

/** Closed lists are told, unless they are error codes, which docs/errors.md has. */
function valuesText(values: LabelValues): string {
  if (values === "any" || values === "model") return "";
  const all = "first" in values ? [...values.first, ...(values.later === "any" ? [] : values.later)] : values;
  const plain = all.filter((value) => !/^[A-Z]/.test(value));
  const texts = [...(plain.length < all.length ? ["error codes"] : []), ...plain];
  return `: ${texts.join(", ")}${"first" in values && values.later === "any" ? ", ..." : ""}`;
}

/** Series that are there before anything has happened, the process' own (Node's) left out. */
export function seriesTable(): string {
  const lines = PROGRAMS.map((program) => {
    const rows = ROWS.filter(({ programs }) => programs.includes(program));
    const [none, one, twenty] = [[], models(1), models(20)].map((slugs) => rows.reduce((sum, row) => sum + seriesOf(row, slugs), 0));
    return `| ${program} | ${none} | ${(one ?? 0) - (none ?? 0)} | ${twenty} |`;
  });
  return ["| program | without a model | for each model | with 20 models |", "|---|---|---|---|", ...lines].join("\n");
}

function models(count: number): readonly string[] {
  return Array.from({ length: count }, (_, n) => `m${n}`);
}

function seriesOf(row: MetricRow, slugs: readonly string[]): number {
  const { kind, labels } = row;
  if (kind === "gauge") return Object.values(labels).reduce((sets, values) => sets * countOf(values, slugs), 1);
  // Each set of labels of a histogram has its buckets, the one without a bound, sum and count.
  return initialSets(row, slugs).length * (kind === "histogram" ? (row.buckets ?? []).length + 3 : 1);
}

function countOf(values: LabelValues, slugs: readonly string[]): number {
  if (values === "model") return slugs.length;
  if (values === "any") return 1;
  return ("first" in values ? values.first : values).length;
}

/** The rules once more, as an object of the Prometheus operator. */
async function prometheusRule(): Promise<string> {
  const rules = await readFile(join(import.meta.dirname, "..", "deploy", "prometheus", "alerts.yaml"), "utf8");
  const groups = rules.slice(rules.indexOf("\ngroups:") + 1).trimEnd();
  return [
    "# Made from alerts.yaml by `node scripts/make-docs.ts`: change it there. For the Prometheus operator.",
    "apiVersion: monitoring.coreos.com/v1",
    "kind: PrometheusRule",
    "metadata:",
    "  name: dryapi",
    "  labels: { app.kubernetes.io/name: dryapi }",
    "spec:",
    ...groups.split("\n").map((line) => `  ${line}`.trimEnd()),
    "",
  ].join("\n");
}

/** Files that are made as a whole, by their path. */
export const METRIC_FILES: Readonly<Record<string, () => string | Promise<string>>> = {
  "deploy/prometheus/prometheus-rule.yaml": prometheusRule,
  ...Object.fromEntries(DASHBOARDS.map((dashboard) => [`deploy/grafana/${dashboard.uid}.json`, () => dashboardJson(dashboard)])),
};
