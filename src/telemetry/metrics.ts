import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { startEventLoopDelay, type EventLoopDelay } from "./event-loop-delay.ts";
import { METRIC_TABLE, type MetricName, type MetricRow } from "./metric-table.ts";

type Row = (typeof METRIC_TABLE)[MetricName];
type LabelOf<R extends Row> = R["labels"][number];
type MetricOf<R extends Row> = R["kind"] extends "counter"
  ? Counter<LabelOf<R>>
  : R["kind"] extends "gauge"
    ? Gauge<LabelOf<R>>
    : Histogram<LabelOf<R>>;

/** One prom-client metric per row of the table, under the row's key: `metrics.jobs.inc({ model, end: "completed" })`. */
export type MetricSet = { readonly [K in MetricName]: MetricOf<(typeof METRIC_TABLE)[K]> };

export interface Metrics extends MetricSet, Disposable {
  readonly registry: Registry;
  /** Called before each scrape, to set gauges that nobody counts along. One that throws is reported by `onError` and the scrape goes on. */
  onScrape(update: () => void | Promise<void>): void;
  /** The exposition text. */
  scrape(): Promise<{ readonly contentType: string; readonly body: string }>;
}

export interface MetricsOptions {
  readonly version: string;
  readonly worker: string;
  /** Told about gauges that could not be updated. */
  readonly onError?: (thrown: unknown) => void;
}

/** A registry of its own, so that several daemons can live in one process (tests). Dispose it to stop its event-loop monitor. */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const set = Object.fromEntries(Object.entries(METRIC_TABLE).map(([key, row]) => [key, register(registry, row)])) as unknown as MetricSet;
  set.buildInfo.set({ version: options.version, node: process.version, worker: options.worker }, 1);
  const delay = startEventLoopDelay();
  const updates: (() => void | Promise<void>)[] = [() => setDelay(set, delay)];
  return {
    ...set,
    registry,
    onScrape: (update) => void updates.push(update),
    scrape: async () => {
      for (const update of updates) await runUpdate(update, options.onError);
      return { contentType: registry.contentType, body: await registry.metrics() };
    },
    [Symbol.dispose]: () => delay[Symbol.dispose](),
  };
}

async function runUpdate(update: () => void | Promise<void>, onError: MetricsOptions["onError"]): Promise<void> {
  try {
    await update();
  } catch (thrown) {
    onError?.(thrown);
  }
}

function register(registry: Registry, row: MetricRow): Counter | Gauge | Histogram {
  const common = { name: row.name, help: row.help, labelNames: [...row.labels], registers: [registry] };
  if (row.kind === "counter") return new Counter(common);
  if (row.kind === "gauge") return new Gauge(common);
  return new Histogram({ ...common, buckets: [...(row.buckets ?? [])] });
}

function setDelay(set: MetricSet, delay: EventLoopDelay): void {
  const seen = delay.takeSeconds();
  set.eventLoopDelaySeconds.set({ quantile: "0.5" }, seen.p50);
  set.eventLoopDelaySeconds.set({ quantile: "0.99" }, seen.p99);
  set.eventLoopDelaySeconds.set({ quantile: "1" }, seen.max);
}
