/**
 * `node scripts/bench/compare.ts --base CLI [--only latency,queue,flux] [--rounds 3]`: the rows of this checkout and of another one, whose
 * built `dist/cli.js` is CLI, measured in turns on this machine; prints the medians as a table in Markdown.
 */
import { execFile } from "node:child_process";
import { loadavg } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";
import { BUILT_CLI } from "./built-cli.ts";
import { percentile, type Row } from "./row.ts";

const run = promisify(execFile);

const { values } = parseArgs({
  options: { base: { type: "string" }, only: { type: "string", default: "latency,queue,flux" }, rounds: { type: "string", default: "3" } },
});
if (values.base === undefined) {
  process.stderr.write("compare: --base is missing: the built dist/cli.js of the checkout to compare with\n");
  process.exit(2);
}
const programs = { ours: BUILT_CLI, base: resolve(values.base) } as const;
/** Per program and name of a row: its value, or its ratio to what is bare, of each round. */
const seen: Record<keyof typeof programs, Map<string, number[]>> = { ours: new Map(), base: new Map() };

for (let round = 0; round < Number(values.rounds); round += 1) {
  for (const group of values.only.split(",")) {
    for (const which of ["base", "ours"] as const) {
      for (const row of await measure(programs[which], group)) note(seen[which], row);
      process.stderr.write(`round ${round + 1}, ${group}, ${which}: load ${loadavg()[0]?.toFixed(1)}\n`);
    }
  }
}
const lines = [...seen.ours].map(([name, ours]) => {
  const base = seen.base.get(name) ?? [];
  return `| ${name} | ${shown(base)} | ${shown(ours)} | ${(percentile(ours, 50) / percentile(base, 50)).toFixed(3)} |`;
});
process.stdout.write(["| what | before | after | after / before |", "|---|---|---|---|", ...lines, ""].join("\n"));

async function measure(cli: string, group: string): Promise<readonly Row[]> {
  const main = join(import.meta.dirname, "main.ts");
  const { stdout } = await run(process.execPath, [main, "--json", "--only", group], { env: { ...process.env, BENCH_CLI: cli } });
  return JSON.parse(stdout) as readonly Row[];
}

function note(into: Map<string, number[]>, { name, unit, ours, ratio }: Row): void {
  const add = (key: string, value: number): void => void into.set(key, [...(into.get(key) ?? []), value]);
  add(`${name}, ${unit}`, ours);
  if (ratio !== null) add(`${name}, over bare`, ratio);
}

/** Median, and the range of the rounds. */
function shown(values: readonly number[]): string {
  const [least, middle, most] = [0, 50, 100].map((p) => percentile(values, p).toPrecision(3));
  return `${middle} (${least} to ${most})`;
}
