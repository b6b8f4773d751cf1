import { sleep } from "../lib/backoff.ts";
import { asAppError } from "../protocol/error.ts";
import type { Announcer } from "./announcer.ts";
import type { Daemon } from "./daemon.ts";
import { endUnservableJobs, lookEveryMs } from "./end-unservable-jobs.ts";
import type { LearnedPeaks } from "./scheduling/learned-peaks.ts";
import type { SpoolGuard } from "./spool/spool-guard.ts";
import { unservedModels } from "./unusable-models.ts";
import type { WorkerContext } from "./worker-context.ts";

/** What changed is announced within this. */
const ANNOUNCE_CHECK_MS = 1_000;
const SPOOL_CHECK_MS = 2_000;
const PEAKS_EVERY_MS = 10_000;
const RESCAN_EVERY_MS = 30_000;
const SWEEP_EVERY_MS = 600_000;
/** A spool folder without an owner is left alone for so long before it is removed. */
const SPOOL_SWEEP_AGE_MS = 3_600_000;

export interface Housekeepers {
  readonly daemon: Daemon;
  readonly spool: SpoolGuard;
  readonly announcer: Announcer;
  readonly learned: LearnedPeaks;
}

/** What must be done again and again, each at its own pace. A failure is logged and the next turn comes. Runs until the signal aborts. */
export async function keepHouse(
  context: WorkerContext,
  { daemon, spool, announcer, learned }: Housekeepers,
  signal: AbortSignal,
): Promise<void> {
  const { config } = context;
  await Promise.all([
    every("announcing the worker", ANNOUNCE_CHECK_MS, () => announcer.check()),
    every("the end of jobs that no worker can run", lookEveryMs(config), () => endUnservableJobs(context, daemon, announcer.unusable)),
    every("the check for stalled jobs", config.stalledIntervalMs, () => context.queues.recoverStalled()),
    every("the keeping of learned peaks", PEAKS_EVERY_MS, () => learned.save(daemon.loop.state.peaks)),
    every("the check of the spool", SPOOL_CHECK_MS, () => spool.check()),
    every("the look for new models", RESCAN_EVERY_MS, () => rescan(context, daemon)),
    every("the sweep of ended jobs", SWEEP_EVERY_MS, () => sweep(context, daemon)),
    every("the sweep of the object store", context.storeSweep.everyMs, async () => void (await context.storeSweep.run(signal))),
  ]);

  async function every(what: string, intervalMs: number, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      try {
        await work();
      } catch (thrown) {
        if (signal.aborted) return;
        context.log.warn({ err: asAppError(thrown) }, `${what} failed; tried again`);
      }
      await sleep(intervalMs, signal).catch(() => undefined);
    }
  }
}

export function tellUnserved(context: WorkerContext): void {
  for (const { message: problem, isPinned } of unservedModels(context)) {
    if (isPinned) context.log.error({ problem }, "a pinned model is not served: this worker is not ready");
    else context.log.warn({ problem }, "a model is not served");
  }
}

/** Looks at the models on disk and tells the daemon what changed; the others hear it with the next announcement. */
export async function rescan(context: WorkerContext, daemon: Daemon): Promise<void> {
  const { added, removed, changed } = await context.models.rescan();
  if (added.length + removed.length + changed.length === 0) return;
  context.log.info({ added, removed, changed }, "the models on disk changed");
  tellUnserved(context);
  daemon.modelsChanged();
}

async function sweep(context: WorkerContext, daemon: Daemon): Promise<void> {
  const removed = await context.queues.sweep();
  const folders = await context.spool.sweep(SPOOL_SWEEP_AGE_MS);
  let orphans = 0;
  for (const { claim } of await context.spool.scan()) {
    if (daemon.keeper.holds(claim.id)) continue;
    const job = await context.queues.job(claim.queue, claim.id);
    if (job !== null && job.state !== "completed" && job.state !== "failed") continue;
    await context.spool.removeUpTo(claim.id, claim.claim);
    orphans += 1;
  }
  if (removed + folders + orphans > 0) context.log.info({ jobs: removed, folders, orphans }, "ended jobs swept");
}
