/**
 * Writes the generated parts of the documents (docs/settings.md, docs/metrics.md, docs/exit-codes.md, the codes of docs/errors.md) from the code's own tables.
 * With --check it writes nothing and fails when they are out of date.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXIT_CODES } from "../src/cli/exit-codes.ts";
import { fallbackText } from "../src/config/config.ts";
import type { Setting } from "../src/config/setting.ts";
import { FOREIGN_SETTINGS, SETTINGS } from "../src/config/settings.ts";
import { ERROR_TABLE, type ErrorRow } from "../src/protocol/error.ts";
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

/** One table for each coarse code, in the order of the code's own table. */
function errorTables(): string {
  const rows: readonly (readonly [string, ErrorRow])[] = Object.entries(ERROR_TABLE);
  return [...Map.groupBy(rows, ([, { apiCode }]) => apiCode)]
    .map(([apiCode, group]) => {
      const lines = group.map(
        ([code, { publicText, advice, retryable }]) =>
          `| \`${code}\` | ${cell(publicText)} | ${retryable ? "yes" : "no"} | ${cell(advice)} |`,
      );
      return [`**\`${apiCode}\`**`, "", "| `error_reason` | means | retryable | what to do |", "|---|---|---|---|", ...lines].join("\n");
    })
    .join("\n\n");
}

function exitCodeTables(): string {
  const table = (head: string, rows: readonly (readonly (string | number)[])[]): string =>
    [head, head.replaceAll(/[^|]+/g, "---"), ...rows.map((row) => `| ${row.join(" | ")} |`)].join("\n");
  const services = EXIT_CODES.flatMap(({ code, service, restart }) => (service === null ? [] : [[code, cell(service), cell(restart)]]));
  const commands = EXIT_CODES.flatMap(({ code, command }) => (command === null ? [] : [[code, cell(command)]]));
  return [
    "**`dryapi worker`, `gateway`, `courier`, `up`**",
    table("| code | means | restart it? |", services),
    "**All other commands**",
    table("| code | means |", commands),
  ].join("\n\n");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|");
}

/** Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. */
function fill(path: string, document: string, [name, content]: readonly [string, string]): string {
  const begin = `<!-- begin ${name} -->`;
  const end = `<!-- end ${name} -->`;
  const from = document.indexOf(begin);
  const to = document.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${path} has no section ${begin} ... ${end}`);
  return `${document.slice(0, from + begin.length)}\n\n${content}\n\n${document.slice(to)}`;
}

/** By document: its sections. */
const SECTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "docs/settings.md": { settings: settingsTable() },
  "docs/metrics.md": { metrics: metricsTable() },
  "docs/exit-codes.md": { "exit codes": exitCodeTables() },
  "docs/errors.md": { errors: errorTables() },
};

for (const [name, sections] of Object.entries(SECTIONS)) {
  const path = join(ROOT, name);
  const before = await readFile(path, "utf8");
  const after = Object.entries(sections).reduce((document, section) => fill(path, document, section), before);
  if (before === after) continue;
  if (process.argv.includes("--check")) {
    process.stderr.write(`${path} is out of date; run node scripts/make-docs.ts\n`);
    process.exitCode = 1;
  } else {
    await writeFile(path, after);
    process.stdout.write(`wrote ${path}\n`);
  }
}
