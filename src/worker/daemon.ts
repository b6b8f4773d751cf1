import { initialState, type Effect, type Model, type PauseReason, type SchedulerState } from "../core/scheduler-state.ts";
import { sleep as realSleep, type Sleep } from "../lib/backoff.ts";
import { steadyNow } from "../lib/steady-clock.ts";
import { AppError, asAppError, type ErrorCode } from "../protocol/error.ts";
import { Carrier } from "./claims/carrier.ts";
import { ClaimKeeper } from "./claims/claim-keeper.ts";
import { Claimer } from "./claims/claimer.ts";
import { handedBack } from "./claims/held-job.ts";
import { recoverClaims } from "./claims/recover-claims.ts";
import { Settler } from "./claims/settler.ts";
import { StageClock } from "./claims/stage-clock.ts";
import { budgetedDevices } from "./devices/budgeted-devices.ts";
import { DeviceCare } from "./devices/device-care.ts";
import { DeviceWatch, quarantineText, type QuarantineNote } from "./devices/device-watch.ts";
import type { DetectedDevice } from "./devices/devices.ts";
import { proveDevice } from "./devices/prove-device.ts";
import { Batch } from "./runners/batch.ts";
import { RunnerPool, type PooledRunner, type PoolEvents, type PoolOptions } from "./runners/runner-pool.ts";
import { Effects } from "./scheduling/effects.ts";
import { QueueWatch } from "./scheduling/queue-watch.ts";
import { Reruns } from "./scheduling/reruns.ts";
import { SchedulerLoop } from "./scheduling/scheduler-loop.ts";
import { scheduledModels } from "./scheduling/scheduled-models.ts";
import { servedModels } from "./served-models.ts";
import type { WorkerContext } from "./worker-context.ts";

/** How long jobs that were cut short may take to be given back: longer means that Redis is away, and their locks expire. */
const GIVE_BACK_MS = 2_000;
const MEASURE_EVERY_MS = 5_000;
/** A look at a queue that is asked for together with a claim makes the claim's answer wait for it. */
const LOOK_AFTER_CLAIM_MS = 3;
/** Trying again does not help against these; other files or another manifest may, and a rescan sees them. */
const UNUSABLE: ReadonlySet<ErrorCode> = new Set(["MODEL_CORRUPT", "MODEL_NOT_FOUND", "MODEL_UNSUPPORTED", "MANIFEST_INVALID"]);

export interface DaemonOptions extends PoolOptions {
  /** A job met a full disk; claims should pause. */
  readonly onSpoolFull: () => void;
  /** First proofs of devices that are under way, by device; a device without one counts as proved. */
  readonly proofs?: ReadonlyMap<string, Promise<unknown>>;
  /** Peaks of memory that an earlier daemon has learned here. */
  readonly peaks?: SchedulerState["peaks"];
}

/** The parts of the worker and what runs through them from start to end. Single jobs are the carrier's. */
export class Daemon {
  readonly keeper: ClaimKeeper;
  readonly pool: RunnerPool;
  readonly queueWatch: QueueWatch;
  readonly loop: SchedulerLoop;
  readonly carrier: Carrier;
  readonly care: DeviceCare;
  readonly devices: readonly DetectedDevice[];
  readonly #context: WorkerContext;
  readonly #claimer: Claimer;
  readonly #effects: Effects;
  readonly #reruns: Reruns;
  readonly #watch: DeviceWatch;
  /** Aborted when nothing is waited for any more: what is not settled by then is left to its lock. */
  readonly #stop = new AbortController();
  readonly #serving = new Set<Promise<void>>();
  readonly #sleep: Sleep;

  constructor(context: WorkerContext, devices: readonly DetectedDevice[], options: DaemonOptions) {
    this.#context = context;
    this.#sleep = options.sleep ?? realSleep;
    this.devices = devices;
    const { config } = context;
    const policy = { starvationMs: config.starvationMs, idleUnloadMs: config.idleUnloadMs };
    this.#watch = new DeviceWatch((note) => this.#quarantine(note));
    this.care = this.#careFor(options);
    const budgets = budgetedDevices(devices, config).map(({ id, kind, budgetBytes }) => {
      return { id, kind, memoryBytes: budgetBytes, inService: this.care.isInService(id) };
    });
    this.loop = new SchedulerLoop(
      initialState({ devices: budgets, models: this.#models(), policy, ...(options.peaks !== undefined && { peaks: options.peaks }) }),
      (effect) => this.#effects.perform(effect),
    );
    this.keeper = new ClaimKeeper(context);
    this.#reruns = new Reruns({
      canRun: (model) => this.served.includes(model) && this.loop.state.devices.some(({ inService }) => inService),
      onWaiting: (model) => this.queueWatch.poke(model),
      onEvict: (runner) => this.loop.tell({ type: "evict-for", device: runner.device.id, except: runner.id }),
    });
    this.carrier = new Carrier(context, {
      keeper: this.keeper,
      settler: new Settler(context, { stop: this.#stop.signal, sleep: this.#sleep }),
      reruns: this.#reruns,
      watch: this.#watch,
      onLockDoubt: () => void this.keeper.renew(),
      onSpoolFull: options.onSpoolFull,
    });
    this.#claimer = new Claimer(context, this.carrier, () => this.draining);
    const poolEvents: PoolEvents = {
      ready: (runner) => this.loop.tell({ type: "runner-ready", runner: runner.id, ...memoryOf(runner) }),
      exited: ({ id }, crashed) => this.loop.tell({ type: "runner-exited", runner: id, crashed }),
      loadFailed: (at, error) => void this.#loadFailed(at, error),
      pingFailed: (device, error) => this.#watch.probeFailed(device, { kind: "ping" }, error),
    };
    this.pool = new RunnerPool(context, poolEvents, options);
    this.#effects = new Effects(context, {
      loop: this.loop,
      pool: this.pool,
      devices,
      serve: (effect) => this.#serve(effect),
      onMeasured: (device, isTold) => this.care.measured(device, isTold),
    });
    this.queueWatch = new QueueWatch({
      context,
      models: () => this.served,
      backlog: (model) => this.#reruns.of(model),
      onWork: (queues) => this.loop.tell({ type: "work", queues }),
      onRedis: (up) => this.#onRedis(up),
    });
  }

  get served(): readonly string[] {
    return servedModels(this.#context);
  }

  /** Pinned models that cannot be served now. */
  get unservedPins(): readonly string[] {
    const { served } = this;
    return (this.#context.config.pinnedModels ?? []).filter((slug) => !served.includes(slug));
  }

  get draining(): boolean {
    return this.loop.state.draining;
  }

  /** Takes up what an earlier daemon left in the spool. Before `run`. */
  async recover(signal: AbortSignal): Promise<void> {
    await recoverClaims(this.#context, this.carrier, signal);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const cancels = this.#context.cancels.listen((id) => this.keeper.cancel(id), signal);
    await Promise.all([this.keeper.run(signal), this.queueWatch.run(signal), this.#measureDevices(signal), this.care.run(signal), cancels]);
  }

  /** Something happened in the model's queue. An idle runner claims an added job at once; Redis is asked for the claim first, then for the look. */
  woken(model: string, isAdded: boolean): void {
    if (!isAdded) return this.queueWatch.poke(model);
    this.loop.tell({ type: "job-added", model });
    setTimeout(() => this.queueWatch.poke(model), LOOK_AFTER_CLAIM_MS);
  }

  /** The set of models on disk changed. */
  modelsChanged(): void {
    this.loop.tell({ type: "models-changed", models: this.#models() });
    this.#reruns.review();
    this.queueWatch.poke();
  }

  isPaused(reason: PauseReason): boolean {
    return this.loop.state.paused.includes(reason);
  }

  pause(reason: PauseReason): void {
    this.loop.tell({ type: "pause-claims", reason });
  }

  resume(reason: PauseReason): void {
    this.loop.tell({ type: "resume-claims", reason });
    this.queueWatch.poke();
  }

  /**
   * Stops claiming, lets batches end within the grace (or until `now` aborts), gives the rest back to the front of their queues, ends
   * all runners. No attempt is spent. Outputs that are whole but not stored stay in the spool for the next start. Ends soon after the
   * grace whatever Redis and the runners do: what cannot be given back waits for its lock to expire.
   */
  async drain(graceMs: number, now: AbortSignal): Promise<void> {
    const why = handedBack("the worker shut down before the job ended");
    this.loop.tell({ type: "drain" });
    this.#reruns.close(why);
    const done = this.#allSettled();
    await this.#within(graceMs, done, now);
    this.keeper.close(why);
    const killed = this.pool.killAll("the worker shuts down");
    await this.#within(GIVE_BACK_MS, Promise.all([done, killed]));
    this.#stop.abort(new AppError("REDIS_UNAVAILABLE", "the worker ended before the queue had taken the job back"));
    await this.#within(GIVE_BACK_MS, Promise.all([done, killed]));
    this.loop.close();
  }

  async #allSettled(): Promise<void> {
    while (this.#serving.size + this.carrier.carrying > 0) await Promise.allSettled([...this.#serving, this.carrier.idle()]);
  }

  /** One batch on one runner: its seats are filled, from the reruns first, and it runs. The jobs in it are the carrier's throughout. */
  #serve(effect: Extract<Effect, { type: "claim" }>): Promise<void> {
    const serving = this.#fillAndRun(effect).finally(() => this.#serving.delete(serving));
    this.#serving.add(serving);
    return serving;
  }

  async #fillAndRun({ runner: id, model, max }: Extract<Effect, { type: "claim" }>): Promise<void> {
    const runner = this.pool.get(id);
    if (runner === undefined) {
      this.loop.tell({ type: "claimed", runner: id, count: 0 });
      return;
    }
    const stages = new StageClock((stage, seconds) => this.#context.metrics.stageSeconds.observe({ model, stage }, seconds));
    const batch = new Batch(runner, { onStage: (stage) => stages.enter(stage) });
    let claims = 0;
    try {
      if (!this.#reruns.offer(batch)) claims = await this.#claimer.claimInto(batch, max);
    } catch (thrown) {
      this.#context.log.warn({ model, err: asAppError(thrown) }, "claiming failed; tried again");
    }
    const ran = batch.close();
    this.loop.tell({ type: "claimed", runner: id, count: batch.size });
    // The scheduler takes a batch that is not full for the last of the model's work.
    if (this.#reruns.of(model).length > 0) this.queueWatch.poke(model);
    if (batch.size === 0) {
      if (claims > 0) this.queueWatch.poke(model);
      return;
    }
    const { reusable } = await ran;
    stages.stop();
    if (reusable) runner.provenAt = steadyNow();
    this.loop.tell({ type: "batch-done", runner: id, reusable, ...memoryOf(runner) });
  }

  /** A model that cannot be loaded for its files or its kind is no use here: jobs that wait for it are another worker's, or fail. */
  async #loadFailed({ model, device }: { readonly model: string; readonly device: string }, error: AppError): Promise<void> {
    try {
      if (UNUSABLE.has(error.code)) await this.#context.models.markCorrupt(model, error.message, error.code);
    } catch (thrown) {
      this.#context.log.error({ model, err: asAppError(thrown) }, "a model was not marked unusable; it will be loaded again");
    }
    if (error.code === "DEVICE_UNAVAILABLE") this.#watch.probeFailed(device, { kind: "load", model }, error);
    this.#reruns.refuse(model, handedBack("its model could not be loaded again"));
    this.modelsChanged();
  }

  #quarantine(note: QuarantineNote): void {
    const { device, until, times, error } = note;
    const provedAnewAt = new Date(until).toISOString();
    this.#context.log.error({ device, provedAnewAt, times, code: error.code }, `device taken out of service: ${quarantineText(note)}`);
    this.care.quarantined(device);
    this.loop.tell({ type: "quarantine", device });
    this.#reruns.review();
  }

  #careFor({ proofs = new Map<string, Promise<unknown>>() }: DaemonOptions): DeviceCare {
    const { log, runnerEntry } = this.#context;
    return new DeviceCare({
      devices: this.devices,
      proofs,
      prove: async (id, signal) => {
        const device = this.devices.find((each) => each.id === id);
        if (device === undefined) return;
        try {
          await proveDevice(device, { log, signal, ...(runnerEntry !== undefined && { entry: runnerEntry }) });
        } finally {
          // What the proof held may have been measured as somebody else's.
          await this.#effects.measure(id);
        }
      },
      watch: this.#watch,
      isUsed: (id) => this.pool.isUsed(id),
      onProved: (device) => {
        log.info({ device }, "device in service");
        this.loop.tell({ type: "device-proved", device });
        this.#reruns.review();
      },
      sleep: this.#sleep,
    });
  }

  #onRedis(up: boolean): void {
    if (!up) return this.pause("redis");
    void this.keeper.renew();
    this.resume("redis");
  }

  async #measureDevices(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await Promise.all(this.devices.map(({ id }) => this.#effects.measure(id)));
      await this.#sleep(MEASURE_EVERY_MS, signal).catch(() => undefined);
    }
  }

  /** Waits for the work, at most so long, or until the signal aborts. */
  async #within(ms: number, work: Promise<unknown>, signal?: AbortSignal): Promise<void> {
    const over = new AbortController();
    const timeUp = this.#sleep(ms, signal === undefined ? over.signal : AbortSignal.any([signal, over.signal])).catch(() => undefined);
    await Promise.race([work, timeUp]);
    over.abort();
  }

  #models(): readonly Model[] {
    return scheduledModels(this.#context, this.served);
  }
}

/** What the runner's process holds: on a GPU what the driver says, which may be nothing. The memory of the host says nothing about it. */
function memoryOf({ device, process }: PooledRunner): { readonly memoryBytes?: number } {
  const { rssBytes, deviceBytes } = process.memory;
  if (device.kind === "cpu") return { memoryBytes: rssBytes };
  return deviceBytes === null ? {} : { memoryBytes: deviceBytes };
}
