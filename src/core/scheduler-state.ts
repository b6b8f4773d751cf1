import type { DeviceKind } from "../protocol/manifest.ts";

/** All times are milliseconds of one clock that never goes back (the host's own), all sizes bytes. Everything here is plain, frozen-safe data: `decide` copies, never changes it. */

export interface SchedulerPolicy {
  /** A model whose oldest job waits, and that was not served, for so long beats everything else. */
  readonly starvationMs: number;
  /** A runner unused for so long is stopped unless its model is pinned; null = never. */
  readonly idleUnloadMs: number | null;
  /** Wait after a first failed load of a model on a device; doubles with each further one. */
  readonly loadBackoffMs: number;
  readonly loadBackoffMaxMs: number;
}

export const DEFAULT_POLICY: SchedulerPolicy = Object.freeze({
  starvationMs: 120_000,
  idleUnloadMs: 600_000,
  loadBackoffMs: 5_000,
  loadBackoffMaxMs: 600_000,
});

/** What the shell states about a device at start. */
export interface DeviceInit {
  readonly id: string;
  readonly kind: DeviceKind;
  /** What models may use in all: the device's memory less the operator's reserve. */
  readonly memoryBytes: number;
  /** Whether the free memory can be measured: then a load waits for the measurement after an exit. Default: true for cuda only. */
  readonly reportsMemory?: boolean;
  /** False until `device-proved`. Default: true. */
  readonly inService?: boolean;
}

export interface Device {
  readonly id: string;
  readonly kind: DeviceKind;
  readonly memoryBytes: number;
  readonly reportsMemory: boolean;
  /** Whether it may be given work: proved to work, and not in quarantine since. */
  readonly inService: boolean;
  /** Memory that is used on the device by nobody of ours, as far as measurements show. */
  readonly foreignBytes: number;
  /** The part of it that the last measurement proves; the rest is remembered from earlier ones. */
  readonly provenForeignBytes: number;
  /** Time of the last exit whose memory has not been measured back. */
  readonly unmeasuredSince: number | null;
  /** A model that gets this device next, while the memory for it is being freed: nothing else starts or claims here. */
  readonly reservedFor: string | null;
}

export interface Model {
  readonly slug: string;
  /** Peak need per device kind as the manifest states it; a kind that is absent never gets the model. */
  readonly memoryBytes: Readonly<Partial<Record<DeviceKind, number>>>;
  /** What it needs when its parts are on the device by turns; a kind is absent where that cannot be, or would save nothing. */
  readonly stagedBytes?: Readonly<Partial<Record<DeviceKind, number>>>;
  /** Most jobs of one claim. */
  readonly batchMax: number;
  /** Never stopped for being idle, never evicted. */
  readonly pinned: boolean;
}

/**
 *   start-runner        runner-ready      claim             claimed n>0
 *  ------------> starting -------> ready -------> claiming -------------> busy
 *                                   ^ ^--- claimed 0 ---'                   |
 *                                   '------------- batch-done --------------'
 *  every phase -- stop-runner --> stopping -- runner-exited --> gone; runner-exited ends any phase.
 */
export type RunnerPhase = "starting" | "ready" | "claiming" | "busy" | "stopping";

export interface Runner {
  readonly id: string;
  readonly model: string;
  readonly device: string;
  readonly phase: RunnerPhase;
  /** End of its last batch, or when it became ready. */
  readonly lastUsedAt: number;
  /** Most memory that this process was seen with; 0 while unknown. */
  readonly seenBytes: number;
  /** What its model was reckoned to need when it started. */
  readonly needBytes: number;
  /** What it may hold at a time: its parts are on the device by turns. Null: all of them stay. */
  readonly budgetBytes: number | null;
  /** Its load intent is declared and not yet withdrawn. */
  readonly intent: boolean;
  /** `version` of the queue's view that its claim under way was decided on. */
  readonly claimedOn: number;
}

/** What a peek of one model's queue showed. */
export interface QueueView {
  readonly model: string;
  /** Jobs that can be claimed now. */
  readonly waiting: number;
  /** Since when the next of them waits, as far as this host saw; null = not known, then it counts from now. */
  readonly oldestAt: number | null;
  /** BullMQ priority of the head (1 is the most urgent); null when unknown. */
  readonly topPriority: number | null;
  /** Runners that *other* hosts announced to be loading for this model (live load intents, our own left out). */
  readonly intended: number;
  /** When the first delayed job falls due; no event fires then, so the scheduler wakes itself and claims. */
  readonly nextDueAt: number | null;
}

/** The last view of a queue, less what claims since then took. */
export interface Queue extends QueueView {
  /** Grows with each `work` event that names the queue. */
  readonly version: number;
}

export interface Backoff {
  readonly failures: number;
  readonly until: number;
}

/** Why nothing is claimed: a Redis or an object store that takes no writes, a full spool, a name that another daemon has. */
export type PauseReason = "redis" | "store" | "spool" | "name";

export interface SchedulerState {
  readonly policy: SchedulerPolicy;
  readonly devices: readonly Device[];
  readonly models: readonly Model[];
  readonly runners: readonly Runner[];
  /** By model. */
  readonly queues: Readonly<Record<string, Queue>>;
  /** By model: last claim that got a job. */
  readonly servedAt: Readonly<Record<string, number>>;
  /** By `backoffKey(model, device)`: failed loads. */
  readonly backoffs: Readonly<Record<string, Backoff>>;
  /** By `peakKey(model, device, by turns)`: peaks that were measured above the manifest's statement. */
  readonly peaks: Readonly<Record<string, number>>;
  readonly draining: boolean;
  /** Reasons for which nothing is claimed or started. */
  readonly paused: readonly PauseReason[];
  /** Number of the last runner. */
  readonly runnerCount: number;
  /** The wake-up last asked for. */
  readonly wakeAt: number | null;
}

/** Facts, told by the shell in the order they happened. `at` never falls below an earlier one, but for a measurement's. */
export type SchedulerEvent =
  /** Replaces what was known of these queues; queues left out keep their last view. */
  | { readonly type: "work"; readonly at: number; readonly queues: readonly QueueView[] }
  /** A job was added to a queue; a look at it follows. What is resident and idle claims at once. */
  | { readonly type: "job-added"; readonly at: number; readonly model: string }
  /** `memoryBytes`: what the process was measured to hold after the load. */
  | {
      readonly type: "runner-ready";
      readonly at: number;
      readonly runner: string;
      readonly memoryBytes?: number;
    }
  /**
   * Any end of a runner's process. `crashed`: it ended for reasons of its own (also exit 0 unasked, a failed load, a kill for a missed
   * deadline); false: the shell meant it (stop-runner, a kill for a cancel). On a device that reports memory the shell answers the
   * `measure-device` effect that follows with `device-measured`.
   */
  | {
      readonly type: "runner-exited";
      readonly at: number;
      readonly runner: string;
      readonly crashed: boolean;
    }
  /** Answers `claim`. 0 = nothing there (also when the claim failed): the runner is ready again. */
  | {
      readonly type: "claimed";
      readonly at: number;
      readonly runner: string;
      readonly count: number;
    }
  /** `reusable: false` has the runner stopped. `memoryBytes`: the most it was seen to hold. */
  | {
      readonly type: "batch-done";
      readonly at: number;
      readonly runner: string;
      readonly reusable: boolean;
      readonly memoryBytes?: number;
    }
  /**
   * Answers `measure-device`, and is also sent every few seconds for each device that reports memory. `at` is when it was measured.
   * null = could not be measured: the books are believed.
   */
  | {
      readonly type: "device-measured";
      readonly at: number;
      readonly device: string;
      readonly freeBytes: number | null;
    }
  /** The device is out of service until `device-proved`; its idle runners are stopped. */
  | { readonly type: "quarantine"; readonly at: number; readonly device: string }
  | { readonly type: "device-proved"; readonly at: number; readonly device: string }
  /** Somebody else was faster with the intent: the load is given up. */
  | {
      readonly type: "intent-refused";
      readonly at: number;
      readonly model: string;
      readonly device: string;
    }
  /** The set of models that can be served changed; idle runners of others are stopped. */
  | { readonly type: "models-changed"; readonly at: number; readonly models: readonly Model[] }
  | { readonly type: "pause-claims"; readonly at: number; readonly reason: PauseReason }
  | { readonly type: "resume-claims"; readonly at: number; readonly reason: PauseReason }
  /** Out of memory on the device: every idle runner there but `except` is stopped, pinned ones too. */
  | {
      readonly type: "evict-for";
      readonly at: number;
      readonly device: string;
      readonly except: string | null;
    }
  | { readonly type: "drain"; readonly at: number }
  | { readonly type: "tick"; readonly at: number };

export type StopReason = "evict" | "idle" | "drain" | "not-reusable";

/** Orders to the shell, to be carried out in this order. */
export type Effect =
  | {
      readonly type: "start-runner";
      readonly runner: string;
      readonly model: string;
      readonly device: string;
      /** As Runner has it. */
      readonly budgetBytes: number | null;
    }
  | { readonly type: "stop-runner"; readonly runner: string; readonly reason: StopReason }
  | {
      readonly type: "claim";
      readonly runner: string;
      readonly model: string;
      readonly max: number;
    }
  /** Announce the load in Redis, with a TTL a little over the model's load deadline. */
  | { readonly type: "declare-intent"; readonly model: string; readonly device: string }
  | { readonly type: "withdraw-intent"; readonly model: string; readonly device: string }
  /** Measure the free memory and answer `device-measured`. */
  | { readonly type: "measure-device"; readonly device: string }
  /** One timer in all: replaces the earlier wake-up. Send `tick` (better: a fresh `work`) then. */
  | { readonly type: "wake-at"; readonly at: number };

export interface Decision {
  readonly state: SchedulerState;
  readonly effects: readonly Effect[];
}

export interface SchedulerInit {
  readonly devices: readonly DeviceInit[];
  readonly models: readonly Model[];
  readonly policy?: Partial<SchedulerPolicy>;
  /** As SchedulerState has them, of an earlier life of this worker. */
  readonly peaks?: SchedulerState["peaks"];
}

export function initialState(init: SchedulerInit): SchedulerState {
  return {
    policy: { ...DEFAULT_POLICY, ...init.policy },
    devices: init.devices.map((device) => ({
      id: device.id,
      kind: device.kind,
      memoryBytes: device.memoryBytes,
      reportsMemory: device.reportsMemory ?? device.kind === "cuda",
      inService: device.inService ?? true,
      foreignBytes: 0,
      provenForeignBytes: 0,
      unmeasuredSince: null,
      reservedFor: null,
    })),
    models: init.models,
    runners: [],
    queues: {},
    servedAt: {},
    backoffs: {},
    peaks: init.peaks ?? {},
    draining: false,
    paused: [],
    runnerCount: 0,
    wakeAt: null,
  };
}

/** Key of what is known about a model on a device. A slug holds no `@`. */
export function backoffKey(model: string, device: string): string {
  return `${model}@${device}`;
}

/** Key of a measured peak. A model whose parts are on the device by turns has another peak than one that is there as a whole. */
export function peakKey(model: string, device: string, staged: boolean): string {
  return backoffKey(staged ? `${model}#staged` : model, device);
}
