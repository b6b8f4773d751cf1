import { initialState, type Effect, type Model, type QueueView } from "../core/scheduler-state.ts";
import { sleep } from "../lib/backoff.ts";
import { asAppError, type AppError, type ErrorCode } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { BatchRunner, type BatchReport } from "./claims/batch-runner.ts";
import { ClaimKeeper } from "./claims/claim-keeper.ts";
import { Claimer } from "./claims/claimer.ts";
import { DeviceWatch } from "./devices/device-watch.ts";
import { readDeviceUsage, type DetectedDevice } from "./devices/devices.ts";
import { Finisher } from "./claims/finisher.ts";
import { preempted, type HeldJob } from "./claims/held-job.ts";
import { QueueWatch } from "./scheduling/queue-watch.ts";
import { recoverClaims } from "./claims/recover-claims.ts";
import { RunnerPool, type PooledRunner } from "./runners/runner-pool.ts";
import { SchedulerLoop } from "./scheduling/scheduler-loop.ts";
import { servedModels } from "./served-models.ts";
import type { WorkerContext } from "./worker-context.ts";

const RUNNER_STOP_GRACE_MS = 5_000;
/** Over the model's load deadline, so that an intent outlives the load it stands for. */
const INTENT_MARGIN_MS = 10_000;
/** Trying again does not help against these; other files or another manifest may, and a rescan sees them. */
const UNUSABLE: ReadonlySet<ErrorCode> = new Set(["MODEL_CORRUPT", "MODEL_NOT_FOUND", "MODEL_UNSUPPORTED", "MANIFEST_INVALID"]);

/**
 * The shell around the scheduler: tells it what happens (queues, runners, claims, memory) and carries out what it decides. Jobs that must
 * run again under the same claim wait in a backlog per model and count as waiting work, so that the scheduler finds them a runner.
 */
export class Daemon {
  readonly keeper: ClaimKeeper;
  readonly finisher: Finisher;
  readonly pool: RunnerPool;
  readonly queueWatch: QueueWatch;
  readonly loop: SchedulerLoop;
  readonly devices: readonly DetectedDevice[];
  readonly #context: WorkerContext;
  readonly #claimer: Claimer;
  readonly #batches: BatchRunner;
  readonly #watch: DeviceWatch;
  readonly #backlog = new Map<string, HeldJob[]>();
  readonly #intents = new Map<string, Promise<boolean>>();
  readonly #working = new Set<Promise<void>>();
  #draining = false;

  constructor(context: WorkerContext, devices: readonly DetectedDevice[]) {
    this.#context = context;
    this.devices = devices;
    const { config } = context;
    const policy = { starvationMs: config.starvationMs, idleUnloadMs: config.idleUnloadMs };
    const budgets = devices.map(({ id, kind, memoryBytes }) => ({ id, kind, memoryBytes: memoryBytes - config.deviceReserveBytes }));
    this.loop = new SchedulerLoop(initialState({ devices: budgets, models: this.#models(), policy }), (effect) => this.#perform(effect));
    this.keeper = new ClaimKeeper(context);
    this.finisher = new Finisher(context, this.keeper);
    this.#claimer = new Claimer(context, this.keeper, this.finisher);
    this.#watch = new DeviceWatch(({ device, until }) => this.#quarantine(device, until));
    this.#batches = new BatchRunner(context, { keeper: this.keeper, finisher: this.finisher, watch: this.#watch });
    this.pool = new RunnerPool(context, {
      ready: (runner) => this.loop.tell({ type: "runner-ready", runner: runner.id, ...memoryOf(runner) }),
      exited: ({ id }, crashed) => this.loop.tell({ type: "runner-exited", runner: id, crashed }),
      loadFailed: (at, error) => void this.#loadFailed(at, error),
      pingFailed: (device) => this.#watch.probeFailed(device),
    });
    this.queueWatch = new QueueWatch({
      context,
      models: () => this.served,
      backlog: (model) => this.#backlog.get(model) ?? [],
      onWork: (queues: readonly QueueView[]) => this.loop.tell({ type: "work", queues }),
      onRedis: (up) => this.#onRedis(up),
    });
  }

  get served(): readonly string[] {
    return servedModels(this.#context);
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Takes up what an earlier daemon left in the spool. Before `run`. */
  async recover(): Promise<void> {
    await recoverClaims(this.#context, this.keeper, this.finisher);
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const cancels = this.#context.cancels.listen((id) => this.keeper.cancel(id), signal);
    await Promise.all([this.keeper.run(signal), this.queueWatch.run(signal), this.#measureDevices(signal), cancels]);
  }

  /** The set of models on disk changed. */
  modelsChanged(): void {
    this.loop.tell({ type: "models-changed", models: this.#models() });
    this.queueWatch.poke();
  }

  isPaused(reason: string): boolean {
    return this.loop.state.paused.includes(reason);
  }

  pause(reason: string): void {
    this.loop.tell({ type: "pause-claims", reason });
  }

  resume(reason: string): void {
    this.loop.tell({ type: "resume-claims", reason });
    this.queueWatch.poke();
  }

  /**
   * Stops claiming, lets batches end within the grace (or until `now` aborts), gives the rest back to the front of their queues, ends
   * all runners. No attempt is spent. Outputs that are whole but not stored stay in the spool for the next start.
   */
  async drain(graceMs: number, now: AbortSignal): Promise<void> {
    this.#draining = true;
    this.loop.tell({ type: "drain" });
    const why = preempted("the worker shut down before the job ended");
    for (const job of [...this.#backlog.values()].flat()) await this.#giveUp(job, why);
    this.#backlog.clear();
    const done = this.#workDone().then(() => this.finisher.idle());
    const grace = new AbortController();
    const timeUp = sleep(graceMs, AbortSignal.any([now, grace.signal])).catch(() => undefined);
    await Promise.race([done, timeUp]);
    grace.abort();
    // Newest claim first, so that the jobs stand in their old order at the front of their queues.
    const left = this.keeper.jobs.toSorted((a, b) => b.claimedAt - a.claimedAt);
    for (const job of left) job.abort(why);
    await this.pool.killAll("the worker shuts down");
    await done;
    this.loop.close();
  }

  async #workDone(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working);
  }

  #perform(effect: Effect): void {
    switch (effect.type) {
      case "start-runner":
        return this.#track(this.#start(effect));
      case "stop-runner":
        this.#context.log.info({ runner: effect.runner, reason: effect.reason }, "runner stopped");
        return this.pool.stop(effect.runner, RUNNER_STOP_GRACE_MS);
      case "claim":
        return this.#track(this.#claim(effect));
      case "declare-intent":
        this.#intents.set(intentKey(effect), this.#declare(effect));
        return;
      case "withdraw-intent":
        return this.#track(this.#withdraw(effect));
      case "measure-device":
        return this.#track(this.#measure(effect.device));
      case "wake-at":
        return;
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((thrown: unknown) => this.#context.log.error({ err: asAppError(thrown) }, "an effect failed; this is a bug"))
      .finally(() => this.#working.delete(tracked));
    this.#working.add(tracked);
  }

  async #start(effect: Extract<Effect, { type: "start-runner" }>): Promise<void> {
    const { runner, model, device } = effect;
    const found = this.devices.find((each) => each.id === device);
    const allowed = (await this.#intents.get(intentKey(effect))) ?? true;
    if (found !== undefined && allowed && !this.#draining) {
      this.pool.start(runner, model, found);
      return;
    }
    if (!allowed) this.loop.tell({ type: "intent-refused", model, device });
    this.loop.tell({ type: "runner-exited", runner, crashed: false });
  }

  async #declare({ model, device }: { readonly model: string; readonly device: string }): Promise<boolean> {
    const { intents, config } = this.#context;
    const queue = this.loop.state.queues[model];
    const manifest = this.#manifest(model);
    const forWaiting = Math.max(1, Math.ceil((queue?.waiting ?? 1) / (manifest?.batch.max ?? 1)));
    // A pin is the operator's word for this host, whatever others load.
    const limit = config.pinnedModels?.includes(model) === true ? Number.MAX_SAFE_INTEGER : forWaiting;
    const ttlMs = (manifest?.deadlines.loadMs ?? 600_000) + INTENT_MARGIN_MS;
    try {
      return await intents.declare({ model, worker: config.workerName, device, limit, ttlMs });
    } catch {
      // Redis is away: the load goes on, nothing can be claimed meanwhile anyway.
      return true;
    }
  }

  async #withdraw(effect: Extract<Effect, { type: "withdraw-intent" }>): Promise<void> {
    this.#intents.delete(intentKey(effect));
    const { model, device } = effect;
    // It expires by itself if this does not reach Redis.
    await this.#context.intents.withdraw({ model, device, worker: this.#context.config.workerName }).catch(() => undefined);
  }

  async #claim({ runner: id, model, max }: Extract<Effect, { type: "claim" }>): Promise<void> {
    const runner = this.pool.get(id);
    const jobs = runner === undefined ? [] : await this.#claimFor(runner, model, max);
    if (runner === undefined || jobs.length === 0) {
      this.loop.tell({ type: "claimed", runner: id, count: 0 });
      return;
    }
    this.loop.tell({ type: "claimed", runner: id, count: jobs.length });
    const report = await this.#batches.run(runner.process, runner.device.id, jobs);
    if (report.reusable) runner.provenAt = Date.now();
    await this.#takeBack(runner, report);
    this.loop.tell({ type: "batch-done", runner: id, reusable: report.reusable, memoryBytes: report.deviceBytes ?? report.rssBytes });
    if (report.rerun.length > 0) this.queueWatch.poke(model);
  }

  async #claimFor(runner: PooledRunner, model: string, max: number): Promise<readonly HeldJob[]> {
    const waiting = this.#backlog.get(model) ?? [];
    // A rerun is by itself: that is what tells the guilty one.
    const again = waiting.shift();
    if (again !== undefined) return [again];
    if (this.#draining) return [];
    try {
      const { jobs, tookAny } = await this.#claimer.claimBatch(runner.manifest, max);
      if (jobs.length === 0 && tookAny) this.queueWatch.poke(model);
      for (const job of jobs) if (job.startedAt === null && runner.loadedAt > job.data.submittedAt) job.loadMs = runner.loadMs;
      return jobs;
    } catch (thrown) {
      this.#context.log.warn({ model, err: asAppError(thrown) }, "claiming failed; tried again");
      return [];
    }
  }

  async #takeBack(runner: PooledRunner, report: BatchReport): Promise<void> {
    const why = preempted("the worker shut down before the job ran again");
    for (const { job, evictOthers } of report.rerun) {
      if (this.#draining || job.abortReason !== null) {
        await this.#giveUp(job, job.abortReason ?? why);
        continue;
      }
      if (evictOthers) this.loop.tell({ type: "evict-for", device: runner.device.id, except: runner.id });
      const list = this.#backlog.get(runner.model) ?? [];
      this.#backlog.set(runner.model, [...list, job]);
      job.whenAborted((reason) => void this.#dropFromBacklog(runner.model, job, reason));
    }
  }

  async #dropFromBacklog(model: string, job: HeldJob, reason: AppError): Promise<void> {
    const list = this.#backlog.get(model) ?? [];
    if (!list.includes(job)) return;
    this.#backlog.set(
      model,
      list.filter((each) => each !== job),
    );
    await this.#giveUp(job, reason);
  }

  async #giveUp(job: HeldJob, reason: AppError): Promise<void> {
    job.whenAborted(null);
    job.abort(reason);
    await this.finisher.fail(job, reason, { wasAlone: true, deviceBlamed: false, crashClaims: 0 });
  }

  /** A model that cannot be loaded for its files or its kind is no use here: jobs that wait for it are another worker's, or fail. */
  async #loadFailed({ model, device }: { readonly model: string; readonly device: string }, error: AppError): Promise<void> {
    if (UNUSABLE.has(error.code)) await this.#context.models.markCorrupt(model, error.message, error.code);
    if (error.code === "DEVICE_UNAVAILABLE") this.#watch.probeFailed(device);
    for (const job of this.#backlog.get(model) ?? []) await this.#giveUp(job, preempted("its model could not be loaded again"));
    this.#backlog.delete(model);
    this.modelsChanged();
  }

  #quarantine(device: string, until: number): void {
    this.#context.log.error({ device, until: new Date(until).toISOString() }, "device taken out of service: different jobs crashed on it");
    this.loop.tell({ type: "quarantine", device, until });
  }

  #onRedis(up: boolean): void {
    if (!up) return this.pause("redis");
    void this.keeper.renew();
    this.resume("redis");
  }

  async #measureDevices(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await Promise.all(this.devices.map(({ id }) => this.#measure(id)));
      await sleep(5_000, signal).catch(() => undefined);
    }
  }

  async #measure(id: string): Promise<void> {
    const device = this.devices.find((each) => each.id === id);
    const usage = device === undefined ? null : await readDeviceUsage(device);
    const { deviceMemoryBytes } = this.#context.metrics;
    if (device !== undefined) deviceMemoryBytes.set({ device: id, kind: "total" }, device.memoryBytes);
    if (usage !== null) deviceMemoryBytes.set({ device: id, kind: "used" }, usage.usedBytes);
    this.loop.tell({ type: "device-measured", device: id, freeBytes: usage?.freeBytes ?? null });
  }

  #manifest(slug: string): Manifest | undefined {
    return this.#context.models.get(slug)?.manifest;
  }

  #models(): readonly Model[] {
    const pinned = this.#context.config.pinnedModels ?? [];
    return this.served.flatMap((slug): Model[] => {
      const manifest = this.#manifest(slug);
      if (manifest === undefined) return [];
      const { cuda, webgpu, cpu } = manifest.memoryBytes;
      const memoryBytes = { ...(cuda && { cuda }), ...(webgpu && { webgpu }), ...(cpu && { cpu }) };
      return [{ slug, memoryBytes, batchMax: manifest.batch.max, pinned: pinned.includes(slug) }];
    });
  }
}

function intentKey({ model, device }: { readonly model: string; readonly device: string }): string {
  return `${model}@${device}`;
}

function memoryOf(runner: PooledRunner): { memoryBytes?: number } {
  const { deviceBytes, rssBytes } = runner.process.memory;
  if (runner.device.kind === "cpu") return { memoryBytes: rssBytes };
  return deviceBytes === null ? {} : { memoryBytes: deviceBytes };
}
