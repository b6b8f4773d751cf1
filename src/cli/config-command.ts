import { describeConfig, readConfig, unknownSettings, type EffectiveSetting } from "../config/config.ts";
import { EXIT } from "./exit-codes.ts";
import { wrap, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** `dryapi config`: every setting with its present value, default and meaning. Fails when one is invalid. */
export function runConfig(env: Env, options: { readonly json: boolean }, terminal: Terminal): number {
  const rows = describeConfig(env);
  const unknown = unknownSettings(env);
  const problems = rows.flatMap(({ problem }) => (problem === null ? [] : [problem]));
  if (options.json) {
    terminal.out(JSON.stringify({ settings: rows, unknown, valid: isValid(env) }, null, 2));
    return isValid(env) ? EXIT.ok : EXIT.usage;
  }
  for (const [index, group] of [...new Set(rows.map((row) => row.group))].entries()) {
    terminal.out(`${index === 0 ? "" : "\n"}${group}`);
    for (const row of rows.filter((each) => each.group === group)) terminal.out(describe(row));
  }
  for (const name of unknown) terminal.err(`warn  ${name} is set but is no setting; check its spelling`);
  if (problems.length === 0 && isValid(env)) return EXIT.ok;
  // Says all problems again at the end, where somebody looks; also those that lie between settings.
  readConfig(env);
  return EXIT.usage;
}

function describe(row: EffectiveSetting): string {
  const value = row.value ?? (row.fallback.startsWith("unset") ? row.fallback : `unset (${row.fallback})`);
  const origin = row.source === "environment" ? "  (set)" : "";
  return `  ${row.env}=${value}${origin}\n      ${wrap(row.meaning, 90, "      ")}\n      default: ${row.fallback}`;
}

function isValid(env: Env): boolean {
  try {
    readConfig(env);
    return true;
  } catch {
    return false;
  }
}
