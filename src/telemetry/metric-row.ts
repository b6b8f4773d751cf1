/** The programs that one process may run: `dryapi up` runs all three, a gateway mostly has a courier beside it. */
export const PROGRAMS = ["worker", "gateway", "courier"] as const;
export type Program = (typeof PROGRAMS)[number];

/**
 * What values a label has. A list is closed: nothing else can be counted, and each value is there from the start, at 0. `later`: values that
 * have a series only once they were counted, because they are rare and their series many. "model": the models that the program serves or
 * offers; their series are there as long as they are. "any": what comes.
 */
export type LabelValues =
  | "any"
  | "model"
  | readonly string[]
  | { readonly first: readonly string[]; readonly later: readonly string[] | "any" };

export type LabelSpec = Readonly<Record<string, LabelValues>>;

type ValueOf<V extends LabelValues> = V extends readonly (infer Value extends string)[]
  ? Value
  : V extends { readonly first: readonly (infer First extends string)[]; readonly later: readonly (infer Later extends string)[] }
    ? First | Later
    : string;

/** What a measurement has to name. */
export type LabelsOf<S extends LabelSpec> = { readonly [L in keyof S]: ValueOf<S[L]> };

export interface MetricRow<S extends LabelSpec = LabelSpec> {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly programs: readonly Program[];
  readonly name: string;
  readonly labels: S;
  readonly help: string;
  /** Upper bounds, of histograms only. */
  readonly buckets?: readonly number[];
  /** Label sets that are there from the start although their labels are not closed lists. */
  readonly sets?: readonly Readonly<Record<string, string>>[];
}

type Kinds = MetricRow["kind"];

export interface Row<K extends Kinds, P extends Program, S extends LabelSpec> extends MetricRow<S> {
  readonly kind: K;
  readonly programs: readonly P[];
}

type Make<K extends Kinds> = <const P extends Program, const S extends LabelSpec>(
  programs: readonly P[],
  name: string,
  labels: S,
  help: string,
  sets?: MetricRow["sets"],
) => Row<K, P, S>;

export const counter: Make<"counter"> = (programs, name, labels, help, sets) => {
  return { kind: "counter", programs, name, labels, help, ...(sets !== undefined && { sets }) };
};

export const gauge: Make<"gauge"> = (programs, name, labels, help) => ({ kind: "gauge", programs, name, labels, help });

export const histogram = <const P extends Program, const S extends LabelSpec>(
  programs: readonly P[],
  name: string,
  labels: S,
  buckets: readonly number[],
  help: string,
): Row<"histogram", P, S> & { readonly buckets: readonly number[] } => ({ kind: "histogram", programs, name, labels, buckets, help });

/** The values of a label that have series from the start; null: they are not known before they are counted. */
function firstValues(values: LabelValues, models: readonly string[]): readonly string[] | null {
  if (values === "any") return null;
  if (values === "model") return models;
  return "first" in values ? values.first : values;
}

/** Whether series of the metric come and go with models. */
export function hasModels(row: MetricRow): boolean {
  return Object.values(row.labels).includes("model");
}

/**
 * The label sets that a counter or histogram has from the start: `rate()` and `increase()` see a series' second sample first, so one that is
 * born at 1 never shows what happened.
 */
export function initialSets(row: MetricRow, models: readonly string[]): readonly Readonly<Record<string, string>>[] {
  if (row.kind === "gauge") return [];
  let sets: readonly Readonly<Record<string, string>>[] = [{}];
  for (const [label, values] of Object.entries(row.labels)) {
    const first = firstValues(values, models);
    if (first === null) return row.sets ?? [];
    sets = sets.flatMap((set) => first.map((value) => Object.fromEntries([...Object.entries(set), [label, value]])));
  }
  return sets;
}
