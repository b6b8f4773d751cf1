import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

const GRAFANA = join(import.meta.dirname, "..", "..", "deploy", "grafana");

/** The parts of Grafana's model of a dashboard that tests look at. */
export interface DashboardFile {
  readonly title: string;
  readonly uid: string;
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string; readonly query: { readonly query: string } }[];
  };
  readonly panels: readonly PanelFile[];
}

export interface PanelFile {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly refId: string; readonly expr: string; readonly legendFormat: string }[];
}

export async function readDashboards(): Promise<ReadonlyMap<string, DashboardFile>> {
  const names = (await readdir(GRAFANA)).filter((name) => name.endsWith(".json"));
  const files = names.map(async (name) => [name, JSON.parse(await readFile(join(GRAFANA, name), "utf8")) as DashboardFile] as const);
  return new Map(await Promise.all(files));
}

/**
 * The expression as Grafana sends it with "All" chosen in every variable. `$__rate_interval` is four scrapes, as long as the step of the
 * picture is shorter.
 */
export function expanded(expr: string, scrapeSeconds: number): string {
  const text = expr.replaceAll("$__rate_interval", `${4 * scrapeSeconds}s`).replaceAll(/\$(instance|model)\b/g, ".*");
  if (text.includes("$")) throw new Error(`a variable is left in ${text}`);
  return text;
}
