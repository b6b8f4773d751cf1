import { seeHead, type SeenHead } from "../core/queue-age.ts";
import { steadyNow } from "../lib/steady-clock.ts";
import type { GatewayContext } from "./gateway-context.ts";

type ExportContext = Pick<GatewayContext, "metrics" | "offered" | "queues" | "runTimes">;

/** Several scrapers, or one that hurries, cost Redis no more than this. */
const FRESH_MS = 5_000;
/** Of a job of a model of which none has ended yet: an autoscaler has to start a host for the first one. */
const UNKNOWN_RUN_MS = 60_000;

/**
 * Sets at a scrape how much waits for each offered model, and who serves it: gateways are there when no worker is. One trip to Redis, with
 * one command for each model and two for all. What cannot be looked at keeps its last values; `dryapi_redis_up` tells.
 */
export function exportQueues(context: ExportContext, clock: () => number = steadyNow): void {
  let seenAt = Number.NEGATIVE_INFINITY;
  const heads = new Map<string, SeenHead | null>();
  context.metrics.onScrape(async () => {
    const now = clock();
    if (now - seenAt < FRESH_MS) return;
    seenAt = now;
    await look(context, heads, now);
  });
}

async function look(
  { metrics, offered, queues, runTimes }: ExportContext,
  heads: Map<string, SeenHead | null>,
  now: number,
): Promise<void> {
  const entries = await offered.list();
  const models = entries.map(({ slug }) => slug);
  metrics.setModels("gateway", models);
  for (const { slug, manifest } of entries) for (const task of manifest.tasks) metrics.submits.inc({ task, model: slug }, 0);
  const [peeks, times, workers] = await Promise.all([queues.peek(models), runTimes.all(), offered.workers()]);
  for (const { model, waiting, head } of peeks) {
    const seen = seeHead(heads.get(model) ?? null, head, now);
    heads.set(model, seen);
    metrics.queueWaiting.set({ model }, waiting);
    metrics.queueOldestSeconds.set({ model }, seen === null ? 0 : (now - seen.since) / 1_000);
    metrics.queueWorkSeconds.set({ model }, (waiting * (times.get(model) ?? UNKNOWN_RUN_MS)) / 1_000);
    const serving = workers.filter((worker) => !worker.draining && worker.models.includes(model));
    metrics.modelWorkers.set({ model }, serving.length);
  }
}
