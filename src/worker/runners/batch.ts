import { randomUUID } from "node:crypto";
import { toErrorData } from "../../protocol/error.ts";
import { BatchSeat, type Seat } from "./batch-seat.ts";
import type { PooledRunner } from "./runner-pool.ts";
import type { JobEnd, RunnerEvent } from "./runner-types.ts";

/**
 * The meeting point of a batch. Claims take seats while the batch is open and come with their inputs when they have them; once it is
 * closed and every seat has come or left, the runner gets them all, and each member gets its own outcome.
 *
 *   seat() ... seat() -- close() --> (all have come or left) --> onStart of each --> runner --> outcomes --> report
 */
export class Batch {
  readonly runner: PooledRunner;
  readonly #onStage: (stage: string) => void;
  readonly #seats: BatchSeat[] = [];
  readonly #end = Promise.withResolvers<{ readonly reusable: boolean }>();
  #closed = false;
  #gone = false;

  /** `onStage`: told once per stage of the whole batch. */
  constructor(runner: PooledRunner, options: { readonly onStage: (stage: string) => void }) {
    this.runner = runner;
    this.#onStage = options.onStage;
  }

  /** Seats taken so far. */
  get size(): number {
    return this.#seats.length;
  }

  seat(): Seat {
    const seat = new BatchSeat(this.runner, () => this.#goWhenAllCame());
    this.#seats.push(seat);
    return seat;
  }

  /** No more seats. Resolves when the runner is done with the batch, to whether it may be used again; never rejects. */
  close(): Promise<{ readonly reusable: boolean }> {
    this.#closed = true;
    this.#goWhenAllCame();
    return this.#end.promise;
  }

  #goWhenAllCame(): void {
    if (!this.#closed || this.#gone || this.#seats.some((seat) => seat.state === "expected")) return;
    this.#gone = true;
    const members = this.#seats.filter((seat) => seat.state === "came");
    for (const seat of members) seat.state = "running";
    void this.#go(members).then((reusable) => this.#end.resolve({ reusable }));
  }

  /** True when the runner may be used again. */
  async #go(seats: readonly BatchSeat[]): Promise<boolean> {
    const { process } = this.runner;
    try {
      await Promise.all(seats.map((seat) => seat.member.onStart()));
      const left = seats.filter((seat) => seat.state === "running");
      if (process.state !== "ready" || left.length === 0) return process.state === "ready";
      return await this.#dispatch(new Map(left.map((seat) => [seat.member.job.id, seat])));
    } catch (thrown) {
      // Nothing of the child comes here: an error around it (no file descriptor left, a bug). All that were inside have failed with it.
      for (const seat of seats) seat.end({ kind: "failed", error: toErrorData(thrown), alone: seats.length === 1 });
      return false;
    } finally {
      for (const seat of seats) seat.end({ kind: "not-run" });
    }
  }

  async #dispatch(seats: ReadonlyMap<string, BatchSeat>): Promise<boolean> {
    const { process } = this.runner;
    const alone = seats.size === 1;
    const onJobEnd = async (id: string, outcome: JobEnd): Promise<void> => {
      const { promise: recorded, resolve } = Promise.withResolvers<void>();
      if (outcome.kind === "done") seats.get(id)?.end({ kind: "done", done: outcome.message, recorded: resolve });
      else seats.get(id)?.end({ kind: "failed", error: outcome.error, alone });
      if (outcome.kind === "done") await recorded;
    };
    const running = process.runBatch({
      batch: randomUUID(),
      jobs: [...seats.values()].map(({ member }) => member.job),
      onEvent: (event) => this.#onEvent(seats, event),
      onJobEnd,
    });
    for (const [id, seat] of seats) seat.onAbort(() => process.cancel(id));
    const end = await running;
    for (const [id, outcome] of end.jobs) {
      // Killed for another job's cancel, or by this daemon: a job inside did nothing wrong.
      const innocent = outcome.kind === "unfinished" && end.exit?.crashed === false;
      if (outcome.kind !== "done") seats.get(id)?.end(innocent ? { kind: "not-run" } : { kind: "failed", error: outcome.error, alone });
    }
    return end.reusable;
  }

  #onEvent(seats: ReadonlyMap<string, BatchSeat>, event: RunnerEvent): void {
    if (event.type !== "stage") return seats.get(event.id)?.member.onEvent(event);
    this.#onStage(event.stage);
    for (const { member } of seats.values()) member.onEvent(event);
  }
}
