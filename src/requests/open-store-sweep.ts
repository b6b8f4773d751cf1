import { sweepStore, type SweepDeps, type SweepReport, type SweptAs } from "./sweep-store.ts";

const LOOK_EVERY_MS = 60_000;

/** This process' part in the sweep of the object store. */
export interface StoreSweep {
  /** How often `run` is to be called. */
  readonly everyMs: number;
  /** One round, if it is due and no other process is at it; null otherwise, and where the operator turned it off. */
  run(signal: AbortSignal): Promise<SweepReport | null>;
}

export interface StoreSweepOptions extends SweepDeps {
  readonly config: { readonly retentionMs: number; readonly sweepMs: number | null };
  readonly log: Record<"info" | "warn", (facts: object, text: string) => void>;
  readonly metrics: {
    readonly sweptObjects: { inc(labels: { readonly reason: SweptAs }, count: number): void };
    readonly sweptBytes: { inc(bytes: number): void };
    readonly storeSweeps: { inc(labels: { readonly result: "done" | "partial" | "failed" }): void };
  };
}

export function openStoreSweep(options: StoreSweepOptions): StoreSweep {
  const { retentionMs, sweepMs: intervalMs } = options.config;
  if (intervalMs === null) return { everyMs: LOOK_EVERY_MS, run: async () => null };
  return {
    everyMs: Math.min(LOOK_EVERY_MS, intervalMs),
    run: async (signal) => {
      const startedAt = performance.now();
      const report = await sweepStore(options, { retentionMs, intervalMs, signal }).catch((thrown: unknown) => {
        if (!signal.aborted) options.metrics.storeSweeps.inc({ result: "failed" });
        throw thrown;
      });
      if (report !== null) tell(options, report, performance.now() - startedAt);
      return report;
    },
  };
}

function tell({ log, metrics, store }: StoreSweepOptions, report: SweepReport, ms: number): void {
  const { seen, removed, removedBytes, finished, shared, problem } = report;
  for (const [reason, count] of Object.entries(removed) as [SweptAs, number][]) metrics.sweptObjects.inc({ reason }, count);
  metrics.sweptBytes.inc(removedBytes);
  metrics.storeSweeps.inc({ result: finished ? "done" : "partial" });
  const facts = { seen, removed, removedBytes, finished, ms: Math.round(ms), ...(problem !== undefined && { err: problem }) };
  if (!shared) log.info(facts, "object store swept");
  else
    log.warn(
      { ...facts, store: store.label },
      "object store swept in part: another system has its mark in it, so that objects of unknown requests stay. Give each system a prefix of its own; if the other one is no more, delete its mark under systems/",
    );
}
