import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readConfig, unknownSettings } from "../../src/config/config.ts";
import { FOREIGN_SETTINGS, SETTINGS } from "../../src/config/settings.ts";
import { METRIC_TABLE, type MetricRow } from "../../src/telemetry/metric-table.ts";

const DEPLOY = join(import.meta.dirname, "..", "..", "deploy");

function parseEnv(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

/** Every value of a key in a unit file or manifest, units and colons aside. */
function secondsOf(text: string, key: string): number {
  const value = new RegExp(`^\\s*${key}[=:]\\s*(\\d+)`, "m").exec(text)?.[1];
  assert.ok(value, `${key} is missing`);
  return Number(value);
}

test("the env files hold valid settings only", async () => {
  const known = new Set<string>([...Object.values(SETTINGS).map(({ env }) => env), ...FOREIGN_SETTINGS.map(({ env }) => env)]);
  for (const file of ["systemd/worker.env", "systemd/gateway.env"]) {
    const env = parseEnv(await readFile(join(DEPLOY, file), "utf8"));
    assert.ok(Object.keys(env).length > 3, file);
    assert.deepEqual(unknownSettings(env), [], file);
    for (const name of Object.keys(env)) assert.ok(known.has(name), `${file}: ${name}`);
    readConfig(env);
  }
});

test("the service managers wait longer than a drain takes", async () => {
  const unit = await readFile(join(DEPLOY, "systemd/dryapi-worker.service"), "utf8");
  assert.ok(secondsOf(unit, "TimeoutStopSec") * 1_000 > readConfig({}).shutdownGraceMs + 30_000);
});

test("the dashboard asks for metrics and labels that exist, and leaves out none", async () => {
  const rows = new Map<string, MetricRow>(Object.values(METRIC_TABLE).map((row) => [row.name, row]));
  const used = new Set<string>();
  for (const file of await readdir(join(DEPLOY, "grafana"))) {
    const dashboard = JSON.parse(await readFile(join(DEPLOY, "grafana", file), "utf8")) as { panels: { targets: { expr: string }[] }[] };
    for (const { expr } of dashboard.panels.flatMap(({ targets }) => targets)) {
      for (const [name] of expr.matchAll(/dryapi_\w+/g)) {
        const base = name.replace(/_(bucket|sum|count)$/, "");
        const row = rows.get(base);
        assert.ok(row, `${file}: ${name} in ${expr}`);
        used.add(base);
      }
      const [, by = ""] = /by \(([^)]*)\)/.exec(expr) ?? [];
      const names = [...expr.matchAll(/dryapi_\w+/g)].map(([name]) => name.replace(/_bucket$/, ""));
      const labels = new Set(["le", "instance", ...names.flatMap((name) => rows.get(name)?.labels ?? [])]);
      for (const label of by
        .split(",")
        .map((part) => part.trim())
        .filter(Boolean))
        assert.ok(labels.has(label), `${label} in ${expr}`);
    }
  }
  // Counted where they matter, but no panel of their own: a load that failed and a preview that was dropped show in logs and jobs first.
  const without = ["dryapi_model_load_failures_total", "dryapi_previews_total"];
  assert.deepEqual([...rows.keys()].filter((name) => !used.has(name)).toSorted(), without);
});
