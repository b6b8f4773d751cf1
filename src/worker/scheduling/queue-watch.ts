import { seeHead, type SeenHead } from "../../core/queue-age.ts";
import type { QueueView } from "../../core/scheduler-state.ts";
import { sleep } from "../../lib/backoff.ts";
import { redactUrl } from "../../protocol/redact.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { asAppError } from "../../protocol/error.ts";
import type { QueuePeek } from "../../queue/queue-types.ts";
import type { HeldJob } from "../claims/held-job.ts";
import type { WorkerContext } from "../worker-context.ts";

/** Nothing fires when a delay elapses, on trimming, or after a stream was reset: all queues are looked at this often anyway. */
const PEEK_EVERY_MS = 2_000;

export interface QueueWatchOptions {
  readonly context: WorkerContext;
  readonly models: () => readonly string[];
  /** Held jobs that wait to be run again: they count as waiting. */
  readonly backlog: (model: string) => readonly HeldJob[];
  readonly onWork: (views: readonly QueueView[]) => void;
  /** Redis went away, or came back. */
  readonly onRedis: (up: boolean) => void;
}

/** What waits in the queues: peeked when a wake-up says so, when asked, and every two seconds. One peek at a time; asks in between coalesce. */
export class QueueWatch {
  readonly #options: QueueWatchOptions;
  readonly #dirty = new Set<string>();
  readonly #heads = new Map<string, SeenHead | null>();
  #peeking = false;
  #up = true;

  constructor(options: QueueWatchOptions) {
    this.#options = options;
  }

  /** Looks at one queue, or at all, as soon as possible. */
  poke(model?: string): void {
    for (const slug of model === undefined ? this.#options.models() : [model]) this.#dirty.add(slug);
    if (!this.#peeking) void this.#drain();
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.poke();
      await sleep(PEEK_EVERY_MS, signal).catch(() => undefined);
    }
  }

  async #drain(): Promise<void> {
    this.#peeking = true;
    try {
      while (this.#dirty.size > 0) {
        const models = [...this.#dirty];
        this.#dirty.clear();
        await this.#peek(models);
      }
    } finally {
      this.#peeking = false;
    }
  }

  async #peek(models: readonly string[]): Promise<void> {
    const { queues, intents, config, log } = this.#options.context;
    try {
      const [peeks, intended] = await Promise.all([queues.peek(models), intents.counts(models, config.workerName)]);
      const now = steadyNow();
      this.#told(true);
      this.#options.onWork(peeks.map((peek) => this.#view(peek, intended.get(peek.model) ?? 0, now)));
    } catch (thrown) {
      this.#told(false);
      log.debug({ err: asAppError(thrown) }, "the queues could not be looked at; tried again");
    }
  }

  /** Times of a peek are Redis' or the submitters': here they become ours. */
  #view({ model, waiting, head, paused, topPriority, dueInMs }: QueuePeek, intended: number, now: number): QueueView {
    const { metrics } = this.#options.context;
    const seen = seeHead(this.#heads.get(model) ?? null, head, now);
    this.#heads.set(model, seen);
    metrics.queueWaiting.set({ model }, waiting);
    metrics.queueOldestSeconds.set({ model }, seen === null ? 0 : (now - seen.since) / 1_000);
    const backlog = this.#options.backlog(model);
    const since = [...(seen === null ? [] : [seen.since]), ...backlog.map((job) => job.heldSince)];
    return {
      model,
      waiting: (paused ? 0 : waiting) + backlog.length,
      oldestAt: since.length === 0 ? null : Math.min(now, ...since),
      topPriority,
      intended,
      nextDueAt: paused || dueInMs === null ? null : now + dueInMs,
    };
  }

  #told(up: boolean): void {
    if (up === this.#up) return;
    this.#up = up;
    const { log, config } = this.#options.context;
    log[up ? "info" : "error"](
      { redis: redactUrl(config.redisUrl ?? "") },
      up ? "Redis answers again" : "Redis does not answer; running jobs go on, nothing new is claimed",
    );
    this.#options.onRedis(up);
  }
}
