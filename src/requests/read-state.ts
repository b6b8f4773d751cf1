import { deriveStatus, type JobState } from "../core/job-state.ts";
import type { RequestRecord } from "../protocol/request.ts";
import { isUnreadable, orUnreadable, type Unreadable } from "../protocol/stored.ts";
import type { Queues } from "../queue/queue-types.ts";
import type { LiveValue, Requests } from "../state/state-types.ts";

export interface StateDeps {
  readonly requests: Pick<Requests, "get">;
  readonly queues: Pick<Queues, "job">;
  readonly readLive: (id: string) => Promise<LiveValue | null>;
}

export interface RequestState {
  readonly record: RequestRecord;
  readonly state: JobState;
  /** Sequence number of the event that the state includes; 0 before the first and after its time to live. */
  readonly seq: number;
}

export interface UnreadableRequest extends Unreadable {
  readonly id: string;
}

/**
 * What is true about a request now; null when nobody knows it (never submitted, or past its retention).
 * @throws AppError RECORD_UNREADABLE for one that this program cannot read
 */
export async function readState(deps: StateDeps, id: string): Promise<RequestState | null> {
  const record = await deps.requests.get(id);
  if (record === null) return null;
  const [job, live] = await Promise.all([deps.queues.job(record.queue, id), deps.readLive(id)]);
  const event = live === null ? null : live.preview === null ? live.event : { ...live.event, preview: live.preview };
  return { record, state: deriveStatus({ record, job, live: event }), seq: live?.event.seq ?? 0 };
}

/** Of many requests, in their order, without those that nobody knows. One that cannot be read spoils none of the others. */
export async function readStates(deps: StateDeps, ids: readonly string[]): Promise<readonly (RequestState | UnreadableRequest)[]> {
  const found = await Promise.all(
    ids.map(async (id) => {
      const state = await orUnreadable(readState(deps, id));
      return isUnreadable(state) ? { id, ...state } : state;
    }),
  );
  return found.filter((each) => each !== null);
}
