import { sleep } from "../../lib/backoff.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import type { JobEvent } from "../../protocol/event.ts";
import { readUnfinished } from "../../state/read-unfinished.ts";
import { linkToFile } from "../../requests/link-to-file.ts";
import { isUnreadable, orUnreadable } from "../../protocol/stored.ts";
import { readState, readStates, type RequestState } from "../../requests/read-state.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { presentOf, updateOf, type UpdatePayload } from "./update-payload.ts";

/** Payloads of updates, from events and from the state in Redis: the same for sockets of ours and for another Pusher server. */
export interface RequestUpdates {
  /** Null for an event that changes nothing for a client. Never rejects: a result whose link cannot be read now goes without. */
  ofEvent(event: JobEvent): UpdatePayload | null | Promise<UpdatePayload | null>;
  /** The client's requests that run, oldest first, then those that ended after `since` (`steadyNow`). @throws AppError REDIS_UNAVAILABLE */
  present(client: string, since: number): Promise<readonly PresentUpdate[]>;
}

export interface PresentUpdate {
  readonly payload: UpdatePayload;
  /** Of the last event that it includes. */
  readonly seq: number;
}

export type UpdatesContext = Pick<
  GatewayContext,
  "config" | "log" | "keys" | "redis" | "store" | "secrets" | "publicUrl" | "requests" | "queues" | "readLive" | "index"
>;

/** How many of a client's newest requests are looked through, and of how many the state is told at most. */
const MOST_LOOKED_AT = 1_000;
const MOST_PRESENT = 100;
const LINK_RETRIES_MS = [100, 400, 1_600];

export function openRequestUpdates(context: UpdatesContext): RequestUpdates {
  return {
    ofEvent: (event) => (event.type === "done" ? doneOf(context, event) : updateOf(event, null)),
    present: async (client, from) => {
      const since = from - steadyNow() + (await context.requests.now());
      const { ids } = await context.index.page(client, { cursor: null, limit: MOST_LOOKED_AT });
      const candidates = await readUnfinished(context.redis, context.keys, ids, since);
      const states = await readStates(context, candidates.slice(0, MOST_PRESENT));
      for (const found of states) {
        if (isUnreadable(found)) context.log.warn({ request: found.id, why: found.unreadable }, "a request cannot be told to its client");
      }
      const told = await Promise.all(
        states.flatMap((found) => (!isUnreadable(found) && isTold(found, since) ? [presentUpdate(context, found)] : [])),
      );
      const present = told.filter((each) => each !== null).toReversed();
      const isRunning = ({ payload }: PresentUpdate): boolean => payload.status === "in_progress";
      return [...present.filter(isRunning), ...present.filter((each) => !isRunning(each))];
    },
  };
}

function isTold({ state }: RequestState, since: number): boolean {
  return state.endedAt === null || state.endedAt >= since;
}

async function presentUpdate(context: UpdatesContext, { record, state, seq }: RequestState): Promise<PresentUpdate | null> {
  const payload = presentOf(record.id, state, await linkOf(context, { record, state }));
  return payload === null ? null : { payload, seq };
}

async function doneOf(context: UpdatesContext, event: JobEvent): Promise<UpdatePayload | null> {
  for (const delayMs of [...LINK_RETRIES_MS, null]) {
    try {
      return updateOf(event, await linkOfEnd(context, event));
    } catch {
      if (delayMs !== null) await sleep(delayMs);
    }
  }
  return updateOf(event, null);
}

/** An event of an older worker does not say where its result is. */
async function linkOfEnd(context: UpdatesContext, { id, result }: JobEvent): Promise<string | null> {
  if (result !== undefined) return linkToFile(context, { id, createdAt: result.createdAt }, result);
  const found = await orUnreadable(readState(context, id));
  if (isUnreadable(found)) context.log.warn({ request: id, why: found.unreadable }, "an end is told without its result");
  return found === null || isUnreadable(found) ? null : linkOf(context, found);
}

/** Null for a request without a result. */
async function linkOf(context: UpdatesContext, { record, state }: Pick<RequestState, "record" | "state">): Promise<string | null> {
  const main = state.result?.files.find(({ role }) => role === "main");
  return main === undefined ? null : linkToFile(context, record, main);
}
