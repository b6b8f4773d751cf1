import type { Effect } from "../../core/scheduler-state.ts";
import { asAppError } from "../../protocol/error.ts";
import { readDeviceUsage, type DetectedDevice } from "../devices/devices.ts";
import type { RunnerPool } from "../runners/runner-pool.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { SchedulerLoop } from "./scheduler-loop.ts";

const RUNNER_STOP_GRACE_MS = 5_000;
/** Over the model's load deadline, so that an intent outlives the load it stands for. */
const INTENT_MARGIN_MS = 10_000;

type EffectOf<T extends Effect["type"]> = Extract<Effect, { type: T }>;
type EffectsContext = Pick<WorkerContext, "config" | "intents" | "log" | "metrics" | "models">;

export interface EffectsParts {
  readonly loop: SchedulerLoop;
  readonly pool: Pick<RunnerPool, "start" | "stop">;
  readonly devices: readonly DetectedDevice[];
  /** Runs a batch on a runner, from the claims to its end; holds no job when it throws. */
  readonly serve: (effect: EffectOf<"claim">) => Promise<void>;
  /** Told after each measurement whether the driver answered. */
  readonly onMeasured?: (device: string, isTold: boolean) => void;
}

/** Carries out what the scheduler decides. None of it holds a job: an effect that throws is a bug that costs nobody's work. */
export class Effects {
  readonly #context: EffectsContext;
  readonly #parts: EffectsParts;
  readonly #intents = new Map<string, Promise<boolean>>();
  /** Runners whose start waits for its intent. One that is stopped meanwhile is not known to the pool yet, and must never start. */
  readonly #starting = new Set<string>();

  constructor(context: EffectsContext, parts: EffectsParts) {
    this.#context = context;
    this.#parts = parts;
  }

  perform(effect: Effect): void {
    switch (effect.type) {
      case "start-runner":
        return this.#guard(this.#start(effect));
      case "stop-runner":
        this.#context.log.info({ runner: effect.runner, reason: effect.reason }, "runner stopped");
        this.#starting.delete(effect.runner);
        return this.#parts.pool.stop(effect.runner, RUNNER_STOP_GRACE_MS);
      case "claim":
        return this.#guard(this.#parts.serve(effect));
      case "declare-intent":
        this.#intents.set(intentKey(effect), this.#declare(effect));
        return;
      case "withdraw-intent":
        return this.#guard(this.#withdraw(effect));
      case "measure-device":
        return this.#guard(this.measure(effect.device));
      case "wake-at":
        return;
    }
  }

  /** Asks the device how much of it is free, and tells the scheduler. */
  async measure(id: string): Promise<void> {
    const device = this.#parts.devices.find((each) => each.id === id);
    const usage = device === undefined ? null : await readDeviceUsage(device);
    const { deviceMemoryBytes } = this.#context.metrics;
    if (device !== undefined) deviceMemoryBytes.set({ device: id, kind: "total" }, device.memoryBytes);
    if (usage !== null) deviceMemoryBytes.set({ device: id, kind: "used" }, usage.usedBytes);
    this.#parts.onMeasured?.(id, usage !== null);
    this.#parts.loop.tell({ type: "device-measured", device: id, freeBytes: usage?.freeBytes ?? null });
  }

  #guard(work: Promise<void>): void {
    work.catch((thrown: unknown) => this.#context.log.error({ err: asAppError(thrown) }, "an effect failed; this is a bug"));
  }

  async #start(effect: EffectOf<"start-runner">): Promise<void> {
    const { runner, model, device, budgetBytes } = effect;
    const found = this.#parts.devices.find((each) => each.id === device);
    this.#starting.add(runner);
    const allowed = (await this.#intents.get(intentKey(effect))) ?? true;
    const loop = this.#parts.loop;
    const wanted = this.#starting.delete(runner);
    if (found !== undefined && allowed && wanted && !loop.state.draining) {
      this.#parts.pool.start(runner, model, found, budgetBytes);
      return;
    }
    if (!allowed) loop.tell({ type: "intent-refused", model, device });
    loop.tell({ type: "runner-exited", runner, crashed: false });
  }

  async #declare({ model, device }: EffectOf<"declare-intent">): Promise<boolean> {
    const { intents, config, models } = this.#context;
    const queue = this.#parts.loop.state.queues[model];
    const manifest = models.get(model)?.manifest;
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

  async #withdraw(effect: EffectOf<"withdraw-intent">): Promise<void> {
    this.#intents.delete(intentKey(effect));
    const { model, device } = effect;
    // It expires by itself if this does not reach Redis.
    await this.#context.intents.withdraw({ model, device, worker: this.#context.config.workerName }).catch(() => undefined);
  }
}

function intentKey({ model, device }: { readonly model: string; readonly device: string }): string {
  return `${model}@${device}`;
}
