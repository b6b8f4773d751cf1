import type { StoreHealth } from "../storage/store-health.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Daemon } from "./daemon.ts";

/**
 * Nothing is claimed while the object store takes no writes: the results would only pile up in the spool, and another host may have a store
 * that works. Jobs that were computed go on waiting for it there. Runs until the signal aborts.
 */
export async function pauseWithoutStore(
  health: Pick<StoreHealth, "watch">,
  { daemon, log }: { readonly daemon: Pick<Daemon, "pause" | "resume" | "isPaused">; readonly log: Pick<Logger, "error" | "info"> },
  signal: AbortSignal,
): Promise<void> {
  await health.watch(({ ok, detail }) => {
    if (!ok) {
      log.error({ store: detail }, "no more jobs are claimed: the object store takes no writes; tried again");
      daemon.pause("store");
    } else if (daemon.isPaused("store")) {
      log.info({ store: detail }, "the object store takes writes again");
      daemon.resume("store");
    }
  }, signal);
}
