import { gib } from "../../core/memory-plan.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { sleep as realSleep, type Sleep } from "../../lib/backoff.ts";
import { asAppError, type AppError } from "../../protocol/error.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { DetectedDevice } from "../devices/devices.ts";
import { onnxruntimeSettings } from "./onnxruntime-settings.ts";
import { leftOvers } from "./node-placement.ts";
import { startRunner, type RunnerProcess } from "./runner-process.ts";
import type { RunnerOptions } from "./runner-types.ts";
import type { WorkerContext } from "../worker-context.ts";

/** How often an idle runner must answer a real operation on its device, and how long it may take. */
const PING_EVERY_MS = 20_000;
const PING_TIMEOUT_MS = 10_000;

/** What the pool and the batches use of a runner's process. */
export type RunnerLink = Pick<
  RunnerProcess,
  "pid" | "state" | "memory" | "ready" | "exited" | "runBatch" | "cancel" | "ping" | "stop" | "kill"
>;

export interface PooledRunner {
  readonly id: string;
  readonly model: string;
  readonly device: DetectedDevice;
  readonly manifest: Manifest;
  readonly process: RunnerLink;
  readonly loadMs: number;
  /** Milliseconds of `steadyNow`. */
  readonly loadedAt: number;
  /** Milliseconds of `steadyNow`, of the last proof that the device works: the load's probe, a batch that ended well, a ping. */
  provenAt: number;
}

export interface PoolEvents {
  ready(runner: PooledRunner): void;
  /** The end of a runner, whether it ever was ready or not; told once. */
  exited(runner: { readonly id: string; readonly model: string; readonly device: string }, crashed: boolean): void;
  loadFailed(at: { readonly model: string; readonly device: string }, error: AppError): void;
  pingFailed(device: string, error: AppError): void;
}

type PoolContext = Pick<WorkerContext, "config" | "log" | "metrics" | "models" | "runnerEntry">;

type Slot =
  | { readonly phase: "loading"; readonly device: string; readonly abort: AbortController; process: RunnerLink | null }
  | { readonly phase: "up"; readonly runner: PooledRunner };

interface Wanted {
  readonly id: string;
  readonly model: string;
  readonly device: DetectedDevice;
  readonly budgetBytes: number | null;
}

export interface PoolOptions {
  readonly startRunner?: (options: RunnerOptions) => Promise<RunnerLink>;
  readonly sleep?: Sleep;
}

/** The runner processes of this host by the scheduler's ids: starts them, pings them while they idle, stops them, tells how they end. */
export class RunnerPool {
  readonly #context: PoolContext;
  readonly #events: PoolEvents;
  readonly #startRunner: (options: RunnerOptions) => Promise<RunnerLink>;
  readonly #sleep: Sleep;
  readonly #slots = new Map<string, Slot>();

  constructor(context: PoolContext, events: PoolEvents, options: PoolOptions = {}) {
    this.#context = context;
    this.#events = events;
    this.#startRunner = options.startRunner ?? startRunner;
    this.#sleep = options.sleep ?? realSleep;
  }

  get(id: string): PooledRunner | undefined {
    const slot = this.#slots.get(id);
    return slot?.phase === "up" ? slot.runner : undefined;
  }

  get up(): readonly PooledRunner[] {
    return [...this.#slots.values()].flatMap((slot) => (slot.phase === "up" ? [slot.runner] : []));
  }

  get loading(): number {
    return this.#slots.size - this.up.length;
  }

  /** Whether a runner is up or loading on the device. */
  isUsed(device: string): boolean {
    return [...this.#slots.values()].some((slot) => (slot.phase === "up" ? slot.runner.device.id : slot.device) === device);
  }

  /** Loads a model in a new process; ends in exactly one of `ready` and `exited`. @param budgetBytes as the scheduler's Runner has it */
  start(id: string, model: string, device: DetectedDevice, budgetBytes: number | null = null): void {
    const slot: Slot = { phase: "loading", device: device.id, abort: new AbortController(), process: null };
    this.#slots.set(id, slot);
    void this.#load({ id, model, device, budgetBytes }, slot);
  }

  async #load({ id, model, device, budgetBytes }: Wanted, slot: Extract<Slot, { phase: "loading" }>): Promise<void> {
    const { metrics, log } = this.#context;
    metrics.modelLoadSeconds.begin({ model, device: device.id });
    const startedAt = performance.now();
    try {
      const entry = await this.#context.models.ensureVerified(model, { signal: slot.abort.signal });
      slot.abort.signal.throwIfAborted();
      const { config, runnerEntry } = this.#context;
      const child = await this.#startRunner({
        manifest: entry.manifest,
        modelDir: entry.dir,
        device,
        previews: config.previews,
        embeddingCacheBytes: config.embeddingCacheBytes,
        ...(budgetBytes !== null && { budgetBytes }),
        ...onnxruntimeSettings(config),
        cancelGraceMs: config.cancelGraceMs,
        log: log.child({ model, runner: id }),
        ...(runnerEntry !== undefined && { entry: runnerEntry }),
      });
      slot.process = child;
      if (slot.abort.signal.aborted) void child.kill("it is no longer needed");
      const ready = await child.ready;
      const loadMs = performance.now() - startedAt;
      metrics.modelLoadSeconds.observe({ model, device: device.id }, loadMs / 1_000);
      const { providers, runtime } = ready;
      const onnxruntime = runtime === undefined ? {} : { onnxruntime: runtime.version, api: runtime.api };
      const left = leftOvers(ready.placement ?? [], device.kind);
      log.info(
        {
          model,
          runner: id,
          device: device.id,
          pid: child.pid,
          loadMs: Math.round(loadMs),
          providers,
          ...onnxruntime,
          ...(budgetBytes !== null && { byTurnsIn: gib(budgetBytes) }),
          reports: ready.reports ?? [],
          ...(Object.keys(left).length > 0 && { offDevice: left }),
        },
        "model loaded",
      );
      const now = steadyNow();
      const runner = { id, model, device, manifest: entry.manifest, process: child, loadMs, loadedAt: now, provenAt: now };
      this.#slots.set(id, { phase: "up", runner });
      this.#events.ready(runner);
      void this.#pingWhileIdle(runner);
      const exit = await child.exited;
      if (exit.crashed) {
        metrics.runnerCrashes.inc({ model, reason: exit.reason });
        log.error({ model, runner: id, device: device.id, exit }, "runner ended by itself");
      }
      this.#gone(id, model, device.id, exit.crashed);
    } catch (thrown) {
      this.#loadFailed(id, model, device.id, slot, asAppError(thrown));
    }
  }

  #loadFailed(id: string, model: string, device: string, slot: Extract<Slot, { phase: "loading" }>, error: AppError): void {
    // Nobody knows the process any more; mostly it has ended already.
    void slot.process?.kill("its load failed");
    const wanted = !slot.abort.signal.aborted;
    if (wanted) {
      this.#context.metrics.modelLoadFailures.inc({ model, code: error.code });
      this.#context.log.error({ model, runner: id, device, err: error }, "model could not be loaded");
      this.#events.loadFailed({ model, device }, error);
    }
    this.#gone(id, model, device, wanted);
  }

  #gone(id: string, model: string, device: string, crashed: boolean): void {
    this.#slots.delete(id);
    this.#events.exited({ id, model, device }, crashed);
  }

  /** Lets it go; `exited` follows. A runner that is not known any more has ended already. */
  stop(id: string, graceMs: number): void {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    if (slot.phase === "up") void slot.runner.process.stop({ graceMs });
    else {
      slot.abort.abort();
      void slot.process?.kill("it is no longer needed");
    }
  }

  /** Ends all processes now. */
  async killAll(why: string): Promise<void> {
    const slots = [...this.#slots.values()];
    for (const slot of slots) if (slot.phase === "loading") slot.abort.abort();
    await Promise.all(slots.map(async (slot) => (slot.phase === "up" ? slot.runner.process : slot.process)?.kill(why)));
  }

  async #pingWhileIdle(runner: PooledRunner): Promise<void> {
    const { process } = runner;
    const gone = new AbortController();
    void process.exited.then(() => gone.abort());
    while (await this.#stillUpAfter(PING_EVERY_MS, gone.signal)) {
      if (process.state !== "ready") continue;
      try {
        await process.ping({ timeoutMs: PING_TIMEOUT_MS });
        runner.provenAt = steadyNow();
      } catch (thrown) {
        // A ping fails with the end of its process. One that was stopped or killed by us could not answer.
        if ((await process.exited).crashed) this.#events.pingFailed(runner.device.id, asAppError(thrown));
        return;
      }
    }
  }

  /** False when the process ended within the time. */
  async #stillUpAfter(ms: number, gone: AbortSignal): Promise<boolean> {
    await this.#sleep(ms, gone).catch(() => undefined);
    return !gone.aborted;
  }
}
