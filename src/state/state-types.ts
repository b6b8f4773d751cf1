import type { ProcessIdentity } from "../lib/process-identity.ts";
import type { RedisStep } from "../lib/redis-step.ts";
import type { FaultCount } from "../core/job-outcome.ts";
import type { AnnouncedModels } from "../core/model-availability.ts";
import type { JobEvent, JobEventDraft } from "../protocol/event.ts";
import type { RequestRecord } from "../protocol/request.ts";

/** Request records, hash `{p}:req:<id>`. */
export interface Requests {
  /**
   * Unix milliseconds by Redis' clock: all times in the records, and whatever is compared with them, are of this one clock. Hosts' own may
   * be hours apart. @throws AppError REDIS_UNAVAILABLE
   */
  now(): Promise<number>;
  /**
   * Writes the record unless one exists; false when it did. Expires after the retention. In the same step the request enters its client's
   * list and, until `RequestIndex.queued`, that of requests which may have no job yet.
   */
  create(record: RequestRecord): Promise<boolean>;
  /** What `create` does, for `Queues.addRecorded`. */
  creation(record: RequestRecord): RedisStep;
  /** @throws AppError RECORD_UNREADABLE for one that this program cannot read */
  get(id: string): Promise<RequestRecord | null>;
  /**
   * Sets startedAt once (unix ms by `now`). `first`: it was set now. `elapsedMs`: since it was set; 0 where there is no record.
   */
  markStarted(id: string, at: number): Promise<{ readonly first: boolean; readonly elapsedMs: number }>;
  /** Sets cancelledAt once; false when the record does not exist. */
  markCancelled(id: string): Promise<boolean>;
  /** Which of these are marked cancelled: one round trip. */
  cancelledAmong(ids: readonly string[]): Promise<ReadonlySet<string>>;
}

export interface EmitTarget {
  readonly id: string;
  readonly queue: string;
  readonly token: string;
  readonly claim: number;
  readonly client: string;
}

export interface EmitAnswer {
  /** False: the lock is not ours, nothing was stored or published. */
  readonly lockHeld: boolean;
  readonly cancelled: boolean;
}

/** Events of running jobs. One script each: lock token checked, sequence number, last value with a TTL, PUBLISH. */
export interface Emitter {
  /** Never retried: an event lost to a Redis outage is superseded by the next. @throws AppError REDIS_UNAVAILABLE */
  emit(target: EmitTarget, draft: JobEventDraft): Promise<EmitAnswer>;
  /** `done`, `error` and `requeued`, after the lock is gone: fenced by the claim number. False: a newer claim has spoken. */
  emitEnd(target: Omit<EmitTarget, "token">, draft: JobEventDraft): Promise<boolean>;
}

export interface LiveValue {
  readonly event: JobEvent;
  /** Base64 JPEG of the last preview. */
  readonly preview: string | null;
}

/** Load intents: how many runners are being loaded for a model anywhere, so that 200 idle hosts do not load one model for one job. */
export interface Intents {
  /**
   * Declares that `worker` loads `model` on `device`, unless `limit` others already do; one script, so that two hosts cannot both see
   * room. True when declared. Expires after `ttlMs` unless declared again.
   */
  declare(at: {
    readonly model: string;
    readonly worker: string;
    readonly device: string;
    readonly limit: number;
    readonly ttlMs: number;
  }): Promise<boolean>;
  withdraw(at: { readonly model: string; readonly worker: string; readonly device: string }): Promise<void>;
  /** Live intents per model, those of `exceptWorker` left out. */
  counts(models: readonly string[], exceptWorker: string): Promise<ReadonlyMap<string, number>>;
}

/** `models` are those that it serves, `unusable` those that it is meant to serve and cannot. */
export interface WorkerAnnouncement extends AnnouncedModels {
  readonly host: string;
  readonly pid: number;
  readonly devices: readonly { readonly id: string; readonly kind: string; readonly memoryBytes: number }[];
  readonly at: number;
  /** Which daemon of that name it is, made up by each. Absent in what older workers announce. */
  readonly instance?: string;
  /** Its process, so that one on the same machine can tell whether it still runs. Absent in what older workers announce. */
  readonly process?: ProcessIdentity;
  /** Since when it runs, unix milliseconds by its own clock: for people. */
  readonly since?: number;
}

/** Another daemon that has a worker's name. */
export interface NameHolder {
  /** Its entry as it stands: changes each time it is announced again. */
  readonly text: string;
  /** These are null where the entry, of another version, does not say. */
  readonly instance: string | null;
  readonly host: string;
  readonly pid: number | null;
  readonly since: number | null;
  readonly process: ProcessIdentity | null;
  readonly draining: boolean;
}

/** Live workers and what they serve (hash `{p}:workers`, entries expire unless announced again). */
export interface Registry {
  /**
   * Announces the worker, and holds its name until the entry expires, by Redis' clock. When another daemon's entry of that name has not
   * expired, nothing is written and its holder is the answer. `replaces`: the text of an entry whose daemon is known to be gone.
   * One that says no `instance` replaces whatever is there.
   */
  announce(worker: WorkerAnnouncement, ttlMs: number, replaces?: string): Promise<NameHolder | null>;
  /** Gives the name back; with an `instance` only if it is that one's. */
  withdraw(worker: string, instance?: string): Promise<void>;
  list(): Promise<readonly WorkerAnnouncement[]>;
}

/** Per job: claims on which it ran into a device fault, and workers that passed it on. Both expire with the retention. */
export interface FaultLedger {
  /** Adds the claim, once; returns the job's faults so far, by whom they were blamed on. */
  recordFault(id: string, claim: number, blamed: "job" | "device"): Promise<FaultCount>;
  recordPassOn(id: string, worker: string): Promise<number>;
  passedOnBy(id: string): Promise<ReadonlySet<string>>;
}

/** Cancel nudges by pub/sub: the mark in the request record is the truth, the nudge only makes it quick. */
export interface CancelChannel {
  nudge(id: string): Promise<void>;
  /** Calls `onCancel` with request ids until the signal aborts; survives reconnects. */
  listen(onCancel: (id: string) => void, signal: AbortSignal): Promise<void>;
}
