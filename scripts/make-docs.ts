/**
 * Writes the generated parts of the documents (docs/settings.md, docs/metrics.md, docs/exit-codes.md, the codes of docs/errors.md, README's
 * models) from the code's own tables, and what is made for Prometheus' operator and for Grafana.
 * With --check it writes nothing and fails when they are out of date.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXIT_CODES } from "../src/cli/exit-codes.ts";
import { fallbackText } from "../src/config/config.ts";
import type { Setting } from "../src/config/setting.ts";
import { stagedBytesOn } from "../src/core/device-fit.ts";
import { FOREIGN_SETTINGS, SETTINGS } from "../src/config/settings.ts";
import { ERROR_TABLE, type ErrorRow } from "../src/protocol/error.ts";
import { parseManifest } from "../src/protocol/manifest.ts";
import { METRIC_FILES, metricsTable, seriesTable } from "./metric-docs.ts";

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

const GB = 1e9;
const gigabytes = (bytes: number | undefined): string => (bytes === undefined ? "no" : `${(bytes / GB).toFixed(1)} GB`);
/** Sizes that cards are sold in, GB. */
const CARDS_GB: readonly number[] = [8, 12, 16, 24, 48, 80];
/** Of a card's memory: the driver's, and what DRYAPI_DEVICE_RESERVE_BYTES keeps back. */
const CARD_RESERVE = GB;

/** What comes with the package and is no test model: what it is for, what it needs, and how it runs on which card. */
async function modelsTable(): Promise<string> {
  const folders = (await readdir(join(ROOT, "models"), { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const paths = folders.map(({ name }) => join(ROOT, "models", name, "model.json"));
  const manifests = await Promise.all(paths.map(async (path) => parseManifest(JSON.parse(await readFile(path, "utf8")), path)));
  const lines = manifests
    .filter(({ status }) => status !== "test_model")
    .map((manifest) => {
      const { slug, tasks, memoryBytes, license } = manifest;
      const uses = license.commercial ? license.id : `${license.id} (not for commercial use)`;
      const staged = stagedBytesOn(manifest, "cuda", {});
      const need = `${gigabytes(memoryBytes.cuda)}${staged === undefined ? "" : `, by turns ${gigabytes(staged)}`}`;
      const all = tasks.map((task) => `\`${task}\``).join(" ");
      const cards = CARDS_GB.map((size) => onCard(size, memoryBytes.cuda, staged));
      return `| \`${slug}\` | ${all} | ${need} | ${cards.join(" | ")} | ${gigabytes(memoryBytes.cpu)} | ${uses} |`;
    });
  const columns = ["model", "tasks", "GPU memory", ...CARDS_GB.map((size) => `${size} GB`), "on the CPU", "licence"];
  return [`| ${columns.join(" | ")} |`, `|${columns.map(() => "---|").join("")}`, ...lines].join("\n");
}

function onCard(gb: number, bytes: number | undefined, staged: number | undefined): string {
  const fits = (need: number | undefined): boolean => need !== undefined && need + CARD_RESERVE <= gb * GB;
  return fits(bytes) ? "yes" : fits(staged) ? "by turns" : "no";
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

/** By document: what it becomes. */
function filled(): Readonly<Record<string, (before: string) => string>> {
  return Object.fromEntries(
    Object.entries(SECTIONS).map(([name, sections]) => [
      name,
      (before: string) => Object.entries(sections).reduce((document, section) => fill(name, document, section), before),
    ]),
  );
}

/** By document: its sections. */
const SECTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "README.md": { models: await modelsTable() },
  "docs/settings.md": { settings: settingsTable() },
  "docs/metrics.md": { metrics: metricsTable(), series: seriesTable() },
  "docs/exit-codes.md": { "exit codes": exitCodeTables() },
  "docs/errors.md": { errors: errorTables() },
};

for (const [name, make] of Object.entries({ ...filled(), ...METRIC_FILES })) {
  const path = join(ROOT, name);
  const before = await readFile(path, "utf8").catch(() => "");
  const after = await make(before);
  if (before === after) continue;
  if (process.argv.includes("--check")) {
    process.stderr.write(`${path} is out of date; run node scripts/make-docs.ts\n`);
    process.exitCode = 1;
  } else {
    await writeFile(path, after);
    process.stdout.write(`wrote ${path}\n`);
  }
}
