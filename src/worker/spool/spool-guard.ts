import type { WorkerContext } from "../worker-context.ts";

/** What a full disk said by itself counts for so long, whatever its statistics say: a quota or the inodes may be used up. */
const MET_FULL_MS = 10_000;

export interface SpoolGuardOptions {
  readonly context: Pick<WorkerContext, "log" | "metrics"> & { readonly spool: Pick<WorkerContext["spool"], "usage"> };
  /** Stops and goes on with claiming. */
  readonly onFull: (full: boolean) => void;
  /** Milliseconds of any monotonic clock. */
  readonly now?: () => number;
}

/** Nothing is claimed while the spool has no room: a job would only learn it in the middle of its work. */
export class SpoolGuard {
  readonly #options: SpoolGuardOptions;
  readonly #now: () => number;
  #metFullUntil = Number.NEGATIVE_INFINITY;
  #isFull = false;

  constructor(options: SpoolGuardOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** A job met the full disk. */
  metFull(): void {
    this.#metFullUntil = this.#now() + MET_FULL_MS;
    this.#tell("a job found its disk full", {});
  }

  /** Looks at the spool and its disk. */
  async check(): Promise<void> {
    const { spool, metrics } = this.#options.context;
    const { usedBytes, freeBytes, roomBytes, fullReason } = await spool.usage();
    metrics.spoolBytes.set(usedBytes);
    metrics.spoolFreeBytes.set(freeBytes);
    metrics.spoolRoomBytes.set(roomBytes);
    if (fullReason === null && this.#now() < this.#metFullUntil) return;
    this.#tell(fullReason, { usedBytes, freeBytes });
  }

  #tell(fullReason: string | null, seen: object): void {
    const full = fullReason !== null;
    if (full === this.#isFull) return;
    this.#isFull = full;
    const { log } = this.#options.context;
    log[full ? "error" : "info"](seen, full ? `no more jobs are claimed: ${fullReason}` : "the spool has room again");
    this.#options.onFull(full);
  }
}
