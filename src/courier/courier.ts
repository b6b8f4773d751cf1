import { Bell } from "../lib/bell.ts";
import { backoffDelayMs, sleep, type BackoffPolicy } from "../lib/backoff.ts";
import { endedWithin } from "../lib/within.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import type { DeliveryClaim } from "../queue/open-delivery-queue.ts";
import type { CourierContext } from "./courier-context.ts";
import { deliver } from "./deliver.ts";
import { LanesUnderWay } from "../queue/lanes-under-way.ts";

/**
 * Deliveries at once. One that hangs costs little more than its socket, so there are many: a lone client gets half of them, and what is
 * left is for the others. Of one client's to one origin at most 16: half of these, by the same rule.
 */
const PLACES = 256;
const PLACES_AT_ORIGIN = 32;
/** In one call: what comes back together starts together. */
const MAX_CLAIMS = 32;
/** Longest time without a look at the queue: events may be missed, and nothing tells when a wait is over. */
const LOOK_EVERY_MS = 2_000;
const REDIS_BACKOFF: BackoffPolicy = { firstMs: 50, factor: 2, maxMs: 2_000, jitter: 0.5 };

interface Held {
  readonly claim: DeliveryClaim;
  readonly abort: AbortController;
}

/**
 * Claims deliveries that are due and makes their attempts, many at a time.
 *
 *   queue (due) --claim--> held --deliver--> done | retry later | failed
 *                           | lock lost, or told to end: let go of; another courier makes the attempt again
 */
export class Courier {
  readonly #context: CourierContext;
  readonly #bell = new Bell();
  readonly #held = new Map<string, Held>();
  readonly #running = new Set<Promise<void>>();
  readonly #lanes = new LanesUnderWay();

  constructor(context: CourierContext) {
    this.#context = context;
  }

  get inFlight(): number {
    return this.#held.size;
  }

  /** There may be something to deliver. */
  wake(): void {
    this.#bell.ring();
  }

  /** Claims and delivers until the signal aborts; what is under way then goes on. */
  async run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      try {
        const { claimed, waitMs } = await this.#claimDue();
        failures = 0;
        if (waitMs > 0 && claimed < MAX_CLAIMS) await this.#bell.wait(waitMs, signal);
      } catch (thrown) {
        if (signal.aborted) return;
        failures += 1;
        if (asAppError(thrown).code !== "REDIS_UNAVAILABLE")
          this.#context.log.error({ err: thrown }, "claiming a delivery failed unexpectedly");
        await sleep(backoffDelayMs(REDIS_BACKOFF, failures), signal).catch(() => undefined);
      }
    }
  }

  /** Claims and delivers until nothing is due any more, and waits for the ends of these attempts. For tests and one-off runs. */
  async runDue(): Promise<void> {
    for (let claimed = 1; claimed > 0;) {
      let look = await this.#claimDue();
      claimed = look.claimed;
      while (look.claimed > 0 || look.waitMs === 0) {
        look = await this.#claimDue();
        claimed += look.claimed;
      }
      await this.#allEnded();
    }
  }

  /** Waits for what is under way; what takes longer than `graceMs` is handed back and delivered by another courier. */
  async drain(graceMs: number): Promise<void> {
    await endedWithin(graceMs, this.#allEnded());
    for (const { abort } of this.#held.values()) abort.abort(new AppError("CAPACITY_UNAVAILABLE", "the courier ends"));
    await this.#allEnded();
  }

  /** Renews the locks; a delivery whose lock is lost is somebody else's now. */
  async renew(): Promise<void> {
    const held = [...this.#held.values()];
    if (held.length === 0) return;
    const lost = await this.#context.queue.renew(held.map(({ claim }) => claim));
    for (const { token, id } of lost) {
      this.#held.get(token)?.abort.abort(new AppError("LOCK_LOST", `the lock of delivery ${id} is lost`));
    }
  }

  async #allEnded(): Promise<void> {
    await Promise.all(this.#running);
  }

  /** Returns how many it started, and how long to wait for the next look at most; 0: look again at once. */
  async #claimDue(): Promise<{ readonly claimed: number; readonly waitMs: number }> {
    const most = Math.min(MAX_CLAIMS, PLACES - this.#held.size);
    if (most <= 0) return { claimed: 0, waitMs: LOOK_EVERY_MS };
    const room = { most, places: PLACES, placesAtOrigin: PLACES_AT_ORIGIN, held: this.#lanes.counts() };
    const { claims, more, dueInMs } = await this.#context.queue.claim(room);
    for (const claim of claims) this.#start(claim);
    return { claimed: claims.length, waitMs: more ? 0 : Math.max(1, Math.min(LOOK_EVERY_MS, dueInMs ?? LOOK_EVERY_MS)) };
  }

  #start(claim: DeliveryClaim): void {
    const held: Held = { claim, abort: new AbortController() };
    const leave = this.#lanes.enter(claim.lane);
    this.#held.set(claim.token, held);
    const work = this.#carry(held).finally(() => {
      leave();
      this.#held.delete(claim.token);
      this.#running.delete(work);
      this.#bell.ring();
    });
    this.#running.add(work);
  }

  /** Never throws. */
  async #carry({ claim, abort }: Held): Promise<void> {
    const { queue, log } = this.#context;
    const { signal } = abort;
    try {
      await deliver(this.#context, claim, { signal, persist: (step) => persist(step, signal) });
    } catch (thrown) {
      const error = asAppError(thrown);
      if (error.code === "LOCK_LOST") {
        log.warn({ delivery: claim.id, err: error }, "a delivery's lock was lost; it may arrive twice");
        return;
      }
      if (error.code !== "CAPACITY_UNAVAILABLE")
        log.error({ delivery: claim.id, err: error }, "a delivery broke off unexpectedly; it is tried again");
      // At a shutdown at once, else not: whatever broke it would break it again. What a newer courier wrote waits for one, or for the end of
      // its retention.
      const waitMs = error.code === "RECORD_UNREADABLE" ? UNREADABLE_MS : BROKEN_MS;
      const back = error.code === "CAPACITY_UNAVAILABLE" ? queue.handBack(claim) : queue.postpone(claim, waitMs);
      await back.catch((err: unknown) => log.warn({ delivery: claim.id, err }, "a delivery was not handed back; its lock expires"));
    }
  }
}

const BROKEN_MS = 10_000;
const UNREADABLE_MS = 300_000;

/** Repeats a step until Redis answers. @throws whatever else it throws; `signal.reason` */
async function persist<T>(step: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await step();
    } catch (thrown) {
      if (asAppError(thrown).code !== "REDIS_UNAVAILABLE") throw thrown;
      await sleep(backoffDelayMs(REDIS_BACKOFF, failures), signal);
    }
  }
}
