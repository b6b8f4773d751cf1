/** One line, or one family of lines, of a panel. */
export interface Query {
  readonly expr: string;
  /** Grafana's template of a line's name, e.g. `{{model}}`; empty for a panel of one number. */
  readonly legend: string;
}

export interface Panel {
  readonly title: string;
  /** What it shows and what is good, for whoever looks for the first time. */
  readonly about: string;
  readonly kind: "stat" | "timeseries";
  /** Grafana's name of a unit. */
  readonly unit: string;
  /** Of 24. */
  readonly width: number;
  readonly queries: readonly Query[];
}

export interface Variable {
  readonly name: string;
  readonly label: string;
  /** `label_values(...)` of Grafana's Prometheus data source. */
  readonly query: string;
}

export interface Dashboard {
  /** The file's name without `.json`, and the dashboard's uid. */
  readonly uid: string;
  readonly title: string;
  readonly variables: readonly Variable[];
  readonly panels: readonly Panel[];
}

type Lines = Readonly<Record<string, string>>;

function queriesOf(lines: string | Lines): readonly Query[] {
  if (typeof lines === "string") return [{ expr: lines, legend: "" }];
  return Object.entries(lines).map(([legend, expr]) => ({ expr, legend }));
}

/** A number now. */
export function stat(title: string, about: string, expr: string, unit = "short"): Panel {
  return { title, about, kind: "stat", unit, width: 4, queries: queriesOf(expr) };
}

/** Lines over time, by the template of their names. */
export function lines(title: string, about: string, named: Lines, unit = "short"): Panel {
  return { title, about, kind: "timeseries", unit, width: 8, queries: queriesOf(named) };
}

/** The quantile of a histogram over its last minutes, by labels. */
export function quantile(q: number, name: string, by: readonly string[], where = ""): string {
  return `histogram_quantile(${q}, sum by (${["le", ...by].join(", ")}) (rate(${name}_bucket${where}[$__rate_interval])))`;
}
