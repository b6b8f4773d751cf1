import type { JobState } from "../core/job-state.ts";
import type { WaitReason } from "../core/model-availability.ts";
import { Bell } from "../lib/bell.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import { readState, type StateDeps } from "./read-state.ts";
import { whyWaiting, type WaitDeps } from "./why-waiting.ts";

export interface FollowDeps extends StateDeps, WaitDeps {
  /** The events of the request, in order and each once, until the signal aborts. */
  readonly events: (signal: AbortSignal) => AsyncIterable<JobEvent>;
}

export interface FollowOptions {
  readonly id: string;
  readonly onEvent: (event: JobEvent) => void;
  /** Told when it begins to wait for more than its turn, and when the reason changes. */
  readonly onWait?: (reason: WaitReason) => void;
  readonly signal: AbortSignal;
  /** How often the truth is read, events or not. Default 1 s. */
  readonly pollMs?: number;
}

/**
 * Waits for the end of a request. Events make it quick; the records are the truth, so nothing is missed when events are (Redis restarted,
 * subscriber too slow). A Redis that is away is waited for.
 * @throws `signal.reason`; AppError REQUEST_UNKNOWN when the record vanished
 */
export async function followJob(deps: FollowDeps, options: FollowOptions): Promise<JobState> {
  const stop = new AbortController();
  const bell = new Bell();
  const onWait = onChange(options.onWait);
  void listen(deps.events(AbortSignal.any([stop.signal, options.signal])), options.onEvent, bell);
  try {
    for (;;) {
      options.signal.throwIfAborted();
      const ended = await readEnd(deps, options.id, onWait);
      if (ended !== null) return ended;
      await bell.wait(options.pollMs ?? 1_000, options.signal);
    }
  } finally {
    // Not waited for: while Redis is away a subscription cannot even be given up.
    stop.abort(new AppError("CANCELLED", "following has ended"));
  }
}

/** Never throws: without events the polling goes on. */
async function listen(events: AsyncIterable<JobEvent>, onEvent: (event: JobEvent) => void, bell: Bell): Promise<void> {
  try {
    for await (const event of events) {
      onEvent(event);
      if (event.type === "done" || event.type === "error") bell.ring();
    }
  } catch {
    // Aborted, or Redis is away: the truth is polled.
  }
}

function onChange(tell: FollowOptions["onWait"]): (reason: WaitReason | null) => void {
  let told: string | null = null;
  return (reason) => {
    if (reason !== null && reason.message !== told) tell?.(reason);
    told = reason?.message ?? null;
  };
}

async function readEnd(deps: StateDeps & WaitDeps, id: string, onWait: (reason: WaitReason | null) => void): Promise<JobState | null> {
  try {
    const found = await readState(deps, id);
    if (found === null) throw new AppError("REQUEST_UNKNOWN", `request ${id} is not known any more`);
    if (found.state.status === "done" || found.state.status === "error") return found.state;
    onWait(await whyWaiting(deps, found));
    return null;
  } catch (thrown) {
    if (asAppError(thrown).code === "REDIS_UNAVAILABLE") return null;
    throw thrown;
  }
}
