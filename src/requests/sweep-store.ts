import { decideSweep, parseObjectName, SWEEP_MARGIN_MS, sweptRequest, type SweepReason, type SweptRequest } from "../core/sweep-object.ts";
import { asAppError, type AppError } from "../protocol/error.ts";
import type { Queues } from "../queue/queue-types.ts";
import type { SweepTurn } from "../state/open-sweep-turn.ts";
import type { Requests } from "../state/state-types.ts";
import { storeNow } from "../storage/check-store.ts";
import type { ListedObject, ObjectStore } from "../storage/object-store.ts";
import { sharesStore } from "./shares-store.ts";

export interface SweepDeps {
  readonly store: ObjectStore;
  readonly requests: Pick<Requests, "get">;
  readonly queues: Pick<Queues, "job">;
  readonly turn: SweepTurn;
}

export interface SweepOptions {
  readonly retentionMs: number;
  /** From the end of a sweep to the next one. */
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  /** Objects looked at in one round, about. */
  readonly budget?: number;
}

export type SweptAs = SweepReason | "unfinished-upload";

export interface SweepReport {
  /** Objects looked at. */
  readonly seen: number;
  readonly removed: Readonly<Partial<Record<SweptAs, number>>>;
  readonly removedBytes: number;
  /** The whole store has been swept; else the next round goes on. */
  readonly finished: boolean;
  /** Another system has its mark in the store: what is unknown here may be its, and stays. */
  readonly shared: boolean;
  /** Why unfinished uploads could not be looked for: the key lacks the permission, or the server the call. */
  readonly problem?: AppError;
}

/** In the order of their keys. */
const PREFIXES = ["checks/", "inputs/", "outputs/"] as const;
const PAGE = 200;
const DELETE_LANES = 8;
const BUDGET = 20_000;
/** Between two rounds of one sweep. */
const ROUND_PAUSE_MS = 30_000;

interface Round {
  seen: number;
  removedBytes: number;
  readonly removed: Partial<Record<SweptAs, number>>;
}

/**
 * One round of the sweep: nothing stays in the object store for ever. Any gateway or worker may call it; one at a time does it. Bounded by a
 * budget, goes on where the last round ended, also one that was killed. Idempotent: what is deleted is decided anew from what is true now.
 * Returns null when it is not due, or another process is at it.
 * @throws AppError REDIS_UNAVAILABLE | STORAGE_*: the round ends there; `signal.reason`
 */
export async function sweepStore(deps: SweepDeps, options: SweepOptions): Promise<SweepReport | null> {
  const { lease, progress } = deps.turn;
  if (!(await progress.isDue()) || !(await lease.hold())) return null;
  try {
    // The one before may have ended between the two looks.
    if (!(await progress.isDue())) return null;
    const report = await sweepRound(deps, options);
    await progress.pause(report.finished ? options.intervalMs : Math.min(ROUND_PAUSE_MS, options.intervalMs));
    return report;
  } finally {
    await lease.release().catch(() => undefined);
  }
}

async function sweepRound(deps: SweepDeps, options: SweepOptions): Promise<SweepReport> {
  const { store, turn } = deps;
  const { signal, budget = BUDGET } = options;
  const call = { signal };
  const now = await storeNow(store, call);
  const shared = await sharesStore(store, await turn.systemId(), call);
  const retentionMs = shared ? null : options.retentionMs;
  const round: Round = { seen: 0, removedBytes: 0, removed: {} };
  const cursor = (await turn.progress.cursor()) ?? "";
  for (const prefix of PREFIXES) {
    if (cursor > prefix && !cursor.startsWith(prefix)) continue;
    for await (const page of pages(store.list(prefix, { ...call, ...(cursor.startsWith(prefix) && { after: cursor }) }))) {
      await sweepPage(deps, page, { now, retentionMs, round, signal });
      await turn.progress.setCursor(page.at(-1)?.key ?? prefix);
      if (round.seen >= budget || !(await turn.lease.hold())) return { ...round, finished: false, shared };
    }
  }
  const problem = await removeUnfinished(deps, { now, retentionMs, round, signal });
  await turn.progress.setCursor(null);
  return { ...round, finished: true, shared, ...(problem === null ? {} : { problem }) };
}

interface PageFacts {
  /** The store's clock at the start of the round. */
  readonly now: number;
  readonly retentionMs: number | null;
  readonly round: Round;
  readonly signal: AbortSignal;
}

async function sweepPage(deps: SweepDeps, page: readonly ListedObject[], { now, retentionMs, round, signal }: PageFacts): Promise<void> {
  const named = page.flatMap((object) => {
    const name = parseObjectName(object.key);
    return name === null ? [] : [{ ...object, name }];
  });
  const ids = [...new Set(named.map(({ name }) => name.id))].filter((id) => id !== "");
  const requests = new Map(await Promise.all(ids.map(async (id) => [id, await lookAt(deps, id)] as const)));
  const doomed = named.flatMap(({ key, name, sizeBytes, modifiedAt }) => {
    const request = requests.get(name.id) ?? { kind: "unknown" };
    const decision = decideSweep({ key, name, ageMs: now - modifiedAt, request }, retentionMs);
    return decision.keep ? [] : [{ key, sizeBytes, reason: decision.reason }];
  });
  round.seen += page.length;
  for (let from = 0; from < doomed.length; from += DELETE_LANES) {
    signal.throwIfAborted();
    const lot = doomed.slice(from, from + DELETE_LANES);
    await Promise.all(lot.map(({ key }) => deps.store.delete(key, { signal })));
    for (const { sizeBytes, reason } of lot) {
      round.removed[reason] = (round.removed[reason] ?? 0) + 1;
      round.removedBytes += sizeBytes;
    }
  }
}

/** What cannot be read is not known to have ended. @throws AppError REDIS_UNAVAILABLE */
async function lookAt({ requests, queues }: SweepDeps, id: string): Promise<SweptRequest> {
  try {
    const record = await requests.get(id);
    const job = record === null ? null : await queues.job(record.queue, id);
    return sweptRequest(record, job);
  } catch (thrown) {
    const error = asAppError(thrown);
    if (error.code === "REDIS_UNAVAILABLE") throw error;
    return { kind: "unreadable" };
  }
}

/** No upload takes as long as the retention. In a shared store they may be another system's, which sweeps them itself. */
async function removeUnfinished({ store }: SweepDeps, { now, retentionMs, round, signal }: PageFacts): Promise<AppError | null> {
  if (retentionMs === null) return null;
  try {
    const removed = await store.removeUnfinished(now - Math.max(retentionMs, SWEEP_MARGIN_MS), { signal });
    if (removed > 0) round.removed["unfinished-upload"] = removed;
    return null;
  } catch (thrown) {
    signal.throwIfAborted();
    const error = asAppError(thrown);
    if (error.code === "STORAGE_UNAVAILABLE") throw error;
    return error;
  }
}

async function* pages(objects: AsyncIterable<ListedObject>): AsyncGenerator<readonly ListedObject[]> {
  let page: ListedObject[] = [];
  for await (const object of objects) {
    page.push(object);
    if (page.length < PAGE) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}
