import { setImmediate as nextTurn } from "node:timers/promises";
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { within } from "../lib/within.ts";
import { startEventLoopDelay, type EventLoopDelay } from "./event-loop-delay.ts";
import { hasModels, initialSets, type LabelsOf, type MetricRow, type Program } from "./metric-row.ts";
import { METRIC_TABLE, type MetricName } from "./metric-table.ts";

type Table = typeof METRIC_TABLE;
type NamesOf<P extends Program> = { [K in MetricName]: Extract<Table[K]["programs"][number], P> extends never ? never : K }[MetricName];
/** The labels come first, where a metric has any. */
type With<R extends MetricRow, Rest extends readonly unknown[]> = keyof R["labels"] extends never
  ? Rest
  : readonly [labels: LabelsOf<R["labels"]>, ...rest: Rest];

export interface CounterOf<R extends MetricRow> {
  inc(...args: With<R, readonly [by?: number]>): void;
}
export interface GaugeOf<R extends MetricRow> {
  set(...args: With<R, readonly [value: number]>): void;
}
export interface HistogramOf<R extends MetricRow> {
  observe(...args: With<R, readonly [value: number]>): void;
  /** Gives the series its zeros, so that what comes first is seen as an increase. Leaves one that is there alone. */
  begin(labels: LabelsOf<R["labels"]>): void;
}
type MetricOf<R extends MetricRow> = R["kind"] extends "counter" ? CounterOf<R> : R["kind"] extends "gauge" ? GaugeOf<R> : HistogramOf<R>;

/** One metric per row of the table that the programs have, under the row's key: `metrics.jobs.inc({ model, end: "completed" })`. */
export type MetricSet<P extends Program> = { readonly [K in NamesOf<P>]: MetricOf<Table[K]> };

export type Metrics<P extends Program> = MetricSet<P> &
  Disposable & {
    /**
     * Called before each scrape, to set gauges that nobody counts along. One that throws, or takes longer than `updateMs`, is reported by
     * `onError` and the scrape goes on.
     */
    onScrape(update: () => void | Promise<void>): void;
    /**
     * The models of one program from now on: their counters and histograms begin at 0. Gauges of models that none of the programs has any
     * more go; what was counted stays, since a model may come back.
     */
    setModels(program: P, models: readonly string[]): void;
    /** The exposition text. */
    scrape(): Promise<{ readonly contentType: string; readonly body: string }>;
  };

export interface MetricsOptions<P extends Program> {
  /** Those that run in this process. */
  readonly programs: readonly P[];
  readonly version: string;
  /** DRYAPI_WORKER_NAME. */
  readonly name: string;
  /** How long an update may hold up a scrape. Default 2 s: Prometheus waits for 10. */
  readonly updateMs?: number;
  /** Told about gauges that could not be updated. */
  readonly onError?: (thrown: unknown) => void;
}

const UPDATE_MS = 2_000;

interface Registered {
  readonly row: MetricRow;
  readonly metric: CounterOf<MetricRow> | GaugeOf<MetricRow> | HistogramOf<MetricRow>;
  readonly begin: (labels: Readonly<Record<string, string>>) => void;
  readonly remove: (labels: Readonly<Record<string, string>>) => void;
}

/**
 * A registry of its own, with what the process' programs have and nothing else; several can live in one process (tests). Dispose it to stop
 * its event-loop monitor.
 */
export function createMetrics<const P extends Program>(options: MetricsOptions<P>): Metrics<P> {
  const { programs, version, name, updateMs = UPDATE_MS, onError } = options;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const mine = Object.entries<MetricRow>(METRIC_TABLE).filter(([, row]) => row.programs.some((each) => programs.includes(each as P)));
  const registered = mine.map(([key, row]) => [key, register(registry, row)] as const);
  for (const [, { row, begin }] of registered) if (!hasModels(row)) initialSets(row, []).forEach(begin);
  const set = Object.fromEntries(registered.map(([key, { metric }]) => [key, metric])) as MetricSet<Program>;
  for (const program of programs) {
    set.buildInfo.set({ program, version, node: process.version, name }, 1);
    set.ready.set({ program }, 0);
  }
  const delay = startEventLoopDelay();
  const models = new ModelSeries(registered.map(([, each]) => each).filter(({ row }) => hasModels(row)));
  const updates: (() => void | Promise<void>)[] = [() => setDelay(set, delay)];
  return {
    ...(set as MetricSet<P>),
    onScrape: (update) => void updates.push(update),
    setModels: (program, slugs) => models.set(program, slugs),
    scrape: async () => {
      await Promise.all(updates.map((update) => runUpdate(update, updateMs, onError)));
      return { contentType: registry.contentType, body: await textOf(registry) };
    },
    [Symbol.dispose]: () => delay[Symbol.dispose](),
  };
}

/** The event loop turns between two metrics: hundreds of models are thousands of lines. */
async function textOf(registry: Registry): Promise<string> {
  const texts: string[] = [];
  for (const { name } of registry.getMetricsAsArray()) {
    texts.push(await registry.getSingleMetricAsString(name));
    await nextTurn();
  }
  return `${texts.join("\n\n")}\n`;
}

/** Series that come with models. */
class ModelSeries {
  readonly #metrics: readonly Registered[];
  readonly #of = new Map<Program, readonly string[]>();
  readonly #gone = new Set<string>();

  constructor(metrics: readonly Registered[]) {
    this.#metrics = metrics;
  }

  set(program: Program, models: readonly string[]): void {
    const before = this.#of.get(program) ?? [];
    this.#of.set(program, models);
    const known = new Set([...this.#of.values()].flat());
    for (const model of before) if (!known.has(model)) this.#gone.add(model);
    for (const model of models) this.#gone.delete(model);
    const added = models.filter((model) => !before.includes(model));
    for (const { row, begin } of this.#metrics) if (row.programs.includes(program)) initialSets(row, added).forEach(begin);
    // A look that was under way may have set one of these again.
    const gauges = this.#metrics.filter(({ row }) => row.kind === "gauge");
    for (const model of this.#gone) for (const { remove } of gauges) remove({ model });
  }
}

async function runUpdate(update: () => void | Promise<void>, ms: number, onError: MetricsOptions<Program>["onError"]): Promise<void> {
  try {
    await within((async () => update())(), { ms, late: () => new Error(`a gauge was not set within ${ms} ms`) });
  } catch (thrown) {
    onError?.(thrown);
  }
}

function register(registry: Registry, row: MetricRow): Registered {
  const common = { name: row.name, help: row.help, labelNames: Object.keys(row.labels), registers: [registry] };
  if (row.kind === "counter") {
    const counter = new Counter(common);
    return {
      row,
      metric: counter,
      begin: (labels) => counter.inc(labels, 0),
      remove: (labels) => counter.remove(labels),
    };
  }
  if (row.kind === "gauge") {
    const gauge = new Gauge(common);
    return { row, metric: gauge, begin: () => undefined, remove: (labels) => gauge.remove(labels) };
  }
  return registerHistogram(row, new Histogram({ ...common, buckets: [...(row.buckets ?? [])] }));
}

/** prom-client's `zero` empties a series that is there: it must know which are. */
function registerHistogram(row: MetricRow, histogram: Histogram): Registered {
  const begun = new Set<string>();
  const keyOf = (labels: Readonly<Record<string, string>>): string => JSON.stringify(Object.keys(row.labels).map((label) => labels[label]));
  const begin = (labels: Readonly<Record<string, string>>): void => {
    const key = keyOf(labels);
    if (begun.has(key)) return;
    begun.add(key);
    histogram.zero(labels);
  };
  const labelled = (labels: Readonly<Record<string, string>>, value: number): void => {
    begun.add(keyOf(labels));
    histogram.observe(labels, value);
  };
  const observe = Object.keys(row.labels).length === 0 ? (value: number) => histogram.observe(value) : labelled;
  return { row, metric: { observe, begin } as HistogramOf<MetricRow>, begin, remove: (labels) => histogram.remove(labels) };
}

function setDelay(set: Pick<MetricSet<Program>, "eventLoopDelaySeconds">, delay: EventLoopDelay): void {
  const seen = delay.takeSeconds();
  set.eventLoopDelaySeconds.set({ at: "p50" }, seen.p50);
  set.eventLoopDelaySeconds.set({ at: "p99" }, seen.p99);
  set.eventLoopDelaySeconds.set({ at: "max" }, seen.max);
}
