/**
 * Writes the generated parts of the documents (README's tables of settings and metrics) from the code's own tables.
 * With --check it writes nothing and fails when they are out of date.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fallbackText } from "../src/config/config.ts";
import type { Setting } from "../src/config/setting.ts";
import { FOREIGN_SETTINGS, SETTINGS } from "../src/config/settings.ts";
import { METRIC_TABLE, type MetricRow } from "../src/telemetry/metric-table.ts";

const ROOT = join(import.meta.dirname, "..");

function settingsTable(): string {
  const rows: { readonly group: string; readonly line: string }[] = Object.values(SETTINGS).map((setting: Setting<unknown>) => ({
    group: setting.group,
    line: `| \`${setting.env}\` | ${cell(fallbackText(setting))} | ${cell(setting.meaning)} |`,
  }));
  rows.push(...FOREIGN_SETTINGS.map(({ env, group, meaning }) => ({ group, line: `| \`${env}\` | unset | ${cell(meaning)} |` })));
  const groups = [...new Set(rows.map(({ group }) => group))];
  return groups
    .map((group) => {
      const lines = rows.filter((row) => row.group === group).map(({ line }) => line);
      return [`**${group}**`, "", "| variable | default | meaning |", "|---|---|---|", ...lines].join("\n");
    })
    .join("\n\n");
}

function metricsTable(): string {
  const lines = Object.values(METRIC_TABLE).map(
    ({ name, kind, labels, help }: MetricRow) =>
      `| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(" ")} | ${cell(help)} |`,
  );
  return ["| metric | kind | labels | meaning |", "|---|---|---|---|", ...lines].join("\n");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

/** Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. */
function fill(document: string, name: string, content: string): string {
  const begin = `<!-- begin ${name} -->`;
  const end = `<!-- end ${name} -->`;
  const from = document.indexOf(begin);
  const to = document.indexOf(end);
  if (from < 0 || to < from) throw new Error(`README.md has no section ${begin} ... ${end}`);
  return `${document.slice(0, from + begin.length)}\n\n${content}\n\n${document.slice(to)}`;
}

const path = join(ROOT, "README.md");
const before = await readFile(path, "utf8");
const after = fill(fill(before, "settings", settingsTable()), "metrics", metricsTable());
if (before !== after && process.argv.includes("--check")) {
  process.stderr.write(`${path} is out of date; run node scripts/make-docs.ts\n`);
  process.exitCode = 1;
} else if (before !== after) {
  await writeFile(path, after);
  process.stdout.write(`wrote ${path}\n`);
}
